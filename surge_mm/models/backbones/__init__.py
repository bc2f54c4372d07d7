"""Backbones for MMDetection and MMPretrain."""

from .reactnet import ReActNetA
from .surge_resnet import SurgeResNet
from .surge_vgg import SurgeVGGSmall

__all__ = ['ReActNetA', 'SurgeResNet', 'SurgeVGGSmall']
