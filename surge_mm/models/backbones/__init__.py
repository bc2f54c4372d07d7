"""Backbones for MMDetection and MMPretrain."""

from .surge_resnet import SurgeResNet

__all__ = ['SurgeResNet']
