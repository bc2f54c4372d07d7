"""The arms that the GPU benchmarks compare: binary ResNets for CIFAR-10 with layers, optimizer and learning rate."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any, NamedTuple

from mmengine.hub import get_config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

import surge_mm  # noqa: F401  prepares the stack before the hosts are imported

OPTIMIZER = get_config('surge_mm::_base_/schedules/cifar10_600e.py').optim_wrapper.optimizer
"""SGD of the configs, with learning rate, momentum and weight decay."""

NETWORKS: dict[str, dict[str, Any]] = {
    'ResNet-20, PReLU': {'act_cfg': {'type': 'PReLU'}},
    'ResNet-20, Hardtanh': {},
    'ResNet-34 of width 16, PReLU': {
        'act_cfg': {'type': 'PReLU'},
        'depth': 34,
        'num_stages': 4,
        'out_indices': (3,),
    },
    'ResNet-34 of width 16, Hardtanh': {'depth': 34, 'num_stages': 4, 'out_indices': (3,)},
}
"""Changes of the backbone of ``_base_/models/resnet20_cifar.py``."""

APPROX_SIGN = {'type': 'ApproxSign'}


class Arm(NamedTuple):
    """One setting of a training.

    Args:
        name: What results call it.
        compensator: That of the binary layers; None for STE.
        activation: That of the binary layers, with ``gain``, ``floor`` or ``window``.
        lr: Learning rate after the warm-up.
        optimizer: ``'SGD'``, with the settings of the configs, or ``'AdamW'``, with PyTorch's.
        network: A key of ``NETWORKS``.
        clip: Largest norm of the gradient of all parameters, to which longer ones are scaled; None: no limit.
    """

    name: str
    compensator: dict[str, Any] | None = None
    activation: dict[str, Any] = APPROX_SIGN
    lr: float = OPTIMIZER.lr
    optimizer: str = 'SGD'
    network: str = 'ResNet-20, PReLU'
    clip: float | None = None


ARMS = {
    name: Arm(name, compensator)
    for name, compensator in {
        'STE': None,
        'SURGE': {'eta': 0.1},
        'SURGE lite': {'eta': 0.1, 'tied': True},
        'norm-preserving': {'eta': 0.1, 'preserve_norm': True},
        'SURGE, eta 0.3': {'eta': 0.3},
        'SURGE lite, eta 0.3': {'eta': 0.3, 'tied': True},
    }.items()
}
"""Arms by name; ``SURGE`` is the method as published and the default of the configs."""


@cache
def _model_config() -> Any:
    return get_config('surge_mm::_base_/models/resnet20_cifar.py').model


def build_model(arm: Arm) -> nn.Module:
    """Build and initialize the classifier of ``arm``; a seed gives all arms of a network the same weights."""
    cfg = copy.deepcopy(_model_config())
    cfg.backbone.update(NETWORKS[arm.network])
    cfg.backbone.conv_cfg = {
        'type': 'surge_mm.SurgeConv2d',
        'compensator': arm.compensator,
        'activation': arm.activation,
    }
    cfg.head.in_channels = cfg.backbone.base_channels * 2 ** (cfg.backbone.num_stages - 1)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model: nn.Module = MODELS.build(cfg)
    model.init_weights()  # type: ignore[operator]
    return model
