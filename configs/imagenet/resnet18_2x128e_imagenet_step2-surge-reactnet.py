_base_ = ['../_base_/recipes/resnet18_2x128e_imagenet.py', '../_base_/methods/surge-reactnet.py']

model = dict(backbone=dict(conv_cfg={{_base_.conv_cfg}}))
load_from = 'work_dirs/resnet18_2x128e_imagenet_step1/epoch_128.pth'
