_base_ = 'mmpretrain::_base_/datasets/imagenet_bs64_pil_resize.py'

# 64 images on each of 8 GPUs; on another number of them, keep the product at 512
train_dataloader = dict(batch_size=64)
