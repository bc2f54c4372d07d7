"""Backbones for MMDetection and MMPretrain, and an encoder of texts."""

from surge_mm.models.backbones.reactnet import ReActNetA
from surge_mm.models.backbones.surge_bert import SurgeBert
from surge_mm.models.backbones.surge_resnet import SurgeResNet
from surge_mm.models.backbones.surge_vgg import SurgeVGGSmall

__all__ = ['ReActNetA', 'SurgeBert', 'SurgeResNet', 'SurgeVGGSmall']
