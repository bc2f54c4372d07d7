"""Operators of mmcv served by torchvision where mmcv has no compiled operators."""
