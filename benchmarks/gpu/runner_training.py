"""Training of ResNet-20 by MMEngine's Runner on random images in place of CIFAR-10, for measurements of the loop."""

from __future__ import annotations

import random
import tempfile
import time
from typing import Any

import torch
from arms import ARMS
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.hub import get_config
from mmengine.runner import Runner
from mmpretrain.structures import DataSample

from surge_mm.datasets.cifar import CIFAR10Tensor
from surge_mm.registry import DATASETS, HOOKS


@DATASETS.register_module()
class RandomCIFAR(CIFAR10Tensor):
    """5,120 random images of the shape of CIFAR-10's."""

    def full_init(self) -> None:
        if self._fully_initialized:
            return
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (5120, 3, 32, 32), generator=generator)
        self.images = images.to(device, torch.uint8)
        self.labels = (torch.arange(5120) % 10).to(device)
        self.samples = [DataSample().set_gt_label(label) for label in self.labels.unsqueeze(1)]
        self._fully_initialized = True


@HOOKS.register_module()
class IterationClock(Hook):
    """Note the time after every 50 iterations, when the device has done them.

    Attributes:
        times (list[float]): In seconds.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.times: list[float] = []

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if (runner.iter + 1) % 50 == 0:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.times.append(time.perf_counter())


def random_cifar_runner(arm: str, iterations: int, guard: bool) -> Runner:
    """Build the Runner of the configs' recipe for CIFAR-10, with PReLU, for ``iterations`` steps.

    Args:
        arm (str): A key of ``ARMS``.
        iterations (int): Length of the training.
        guard (bool): Whether the NonFiniteGuardHook is there, as in the configs.
    """
    parts = ['models/resnet20_cifar', 'datasets/cifar10', 'schedules/cifar10_600e', 'cls_runtime']
    cfg = Config()
    for part in parts:
        cfg.merge_from_dict(get_config(f'surge_mm::_base_/{part}.py').to_dict())
    cfg.model.backbone.act_cfg = {'type': 'PReLU'}
    compensator = ARMS[arm].compensator
    cfg.model.backbone.conv_cfg = {'type': 'surge_mm.SurgeConv2d', 'compensator': compensator}
    ags = {'type': 'surge_mm.AdaptiveGradientScalerHook', 'eta': 0.1}
    clock = {'type': 'surge_mm.IterationClock'}
    cfg.custom_hooks = [ags, clock] if compensator else [clock]
    cfg.train_dataloader.dataset = {'type': 'surge_mm.RandomCIFAR', 'data_root': 'random'}
    cfg.train_cfg = {'by_epoch': False, 'max_iters': iterations, 'val_interval': 10 * iterations}
    cfg.train_dataloader.sampler = {'type': 'InfiniteSampler', 'shuffle': True}
    cfg.param_scheduler = None
    for name in ('val', 'test'):
        cfg[f'{name}_cfg'] = cfg[f'{name}_dataloader'] = cfg[f'{name}_evaluator'] = None
    cfg.default_hooks.checkpoint = None
    if not guard:
        cfg.default_hooks.pop('guard')
    cfg.default_hooks.logger.interval = 50
    cfg.work_dir = tempfile.mkdtemp()
    cfg.log_level = 'ERROR'
    cfg.experiment_name = f'gpu_{random.SystemRandom().random()}'
    return Runner.from_cfg(cfg)
