"""Binary neural networks trained by SURGE, for OpenMMLab.

A plugin for MMDetection and MMPretrain that implements "SURGE: Surrogate Gradient Adaptation in
Binary Neural Networks" (ICML 2026, arXiv 2605.10989, https://arxiv.org/abs/2605.10989): layers whose
weights and activations are signs, trained through a full-precision auxiliary branch that exists in
the backward pass only.
"""

# ruff: noqa: E402  the stack is checked before anything that needs it is imported

from surge_mm._stack import check_stack
from surge_mm.version import __version__

check_stack()

from surge_mm.checkpoint.safe_loading import guard_mmengine_loader
from surge_mm.compat import allow_mmengine_checkpoints, install_mmcv_ops
from surge_mm.compat.config_prefix import register_configs
from surge_mm.utils.atomic_write import install_atomic_writes

install_mmcv_ops()
allow_mmengine_checkpoints()
install_atomic_writes()
guard_mmengine_loader()
register_configs()

from surge_mm.hooks import (
    AdaptiveGradientScalerHook,
    BinarizerScheduleHook,
    ChannelsLastHook,
    ExactResumeHook,
    NonFiniteGuardHook,
    SafeCheckpointHook,
)
from surge_mm.layers import RPReLU, SurgeConv2d, SurgeLinear
from surge_mm.models import (
    BatchAugmentPreprocessor,
    Binarized,
    DistilledClassifier,
    ReActNetA,
    SurgeResNet,
    SurgeVGGSmall,
    binarize,
    to_float,
)

__all__ = [
    'AdaptiveGradientScalerHook',
    'BatchAugmentPreprocessor',
    'Binarized',
    'BinarizerScheduleHook',
    'ChannelsLastHook',
    'DistilledClassifier',
    'ExactResumeHook',
    'NonFiniteGuardHook',
    'RPReLU',
    'ReActNetA',
    'SafeCheckpointHook',
    'SurgeConv2d',
    'SurgeLinear',
    'SurgeResNet',
    'SurgeVGGSmall',
    '__version__',
    'binarize',
    'to_float',
]
