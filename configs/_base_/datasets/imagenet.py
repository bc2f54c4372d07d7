_base_ = 'mmpretrain::_base_/datasets/imagenet_bs64_pil_resize.py'

# 8 GPUs: a batch size of 512 in total
train_dataloader = dict(batch_size=64)
