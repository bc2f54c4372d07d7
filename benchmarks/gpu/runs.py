"""Binary ResNets for CIFAR-10 whose whole training step is one CUDA graph.

A step of ResNet-20 is 800 (STE) to 1,650 (SURGE) operators, most of which take a few microseconds on a GPU, so an eager
step waits for the host. Here a step (batch, forward, backward, SGD) is captured once and replayed, without a read of
the host; several runs are replayed side by side on streams of their own.

Layers, models and recipe are those of the configs. The images of an epoch are shuffled and augmented at its start, by
:func:`surge_mm.models.data_preprocessors.batch_augment.random_crop_flip`; a rest that fills no batch is left out.
"""

from __future__ import annotations

import gc
import math
import os
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from arms import OPTIMIZER, Arm, build_model
from mmengine.hub import get_config
from mmengine.logging import MMLogger
from torch import Tensor

from surge_mm.layers import SurgeConv2d
from surge_mm.models.data_preprocessors.batch_augment import random_crop_flip

PREPROCESSOR = get_config('surge_mm::_base_/datasets/cifar10.py').data_preprocessor
BATCH = get_config('surge_mm::_base_/datasets/cifar10.py').train_dataloader.batch_size


@dataclass(frozen=True)
class Setting:
    """How a run computes.

    Args:
        device: ``cpu`` (no graph, for trials) or ``cuda``.
        bf16: Whether forward runs under autocast to bfloat16.
        channels_last: The memory format.
        compile: Whether ``torch.compile`` compiles the network.
        graph: Whether a step is a CUDA graph.
        tf32: Whether convolutions may run in TF32, PyTorch's default.
    """

    device: str = 'cuda'
    bf16: bool = False
    channels_last: bool = False
    compile: bool = False
    graph: bool = True
    tf32: bool = True


def prepare_process(setting: Setting) -> dict[str, Any]:
    """Set PyTorch's switches for ``setting``; return what results say of the machine."""
    on_gpu = setting.device == 'cuda'
    os.environ.setdefault('CUDA_DEVICE_MAX_CONNECTIONS', '32')  # streams that run at once
    gc.freeze()  # each capture of a graph may collect
    torch.backends.cudnn.benchmark = on_gpu
    torch.backends.cudnn.allow_tf32 = setting.tf32
    MMLogger.get_current_instance().setLevel('ERROR')
    return {
        'setting': asdict(setting),
        'card': torch.cuda.get_device_name() if on_gpu else 'CPU',
        'torch': torch.__version__,
    }


class Epoch:
    """The training images of one seed, shuffled and augmented for one epoch, in batches.

    Args:
        images (Tensor): uint8, shape (N, 3, H, W).
        labels (Tensor): int64, shape (N,).
        seed (int): Seed of all draws.
        batch (int): Images of a batch. Defaults to that of the configs for all of CIFAR-10.
        padding (int): Pixels around an image before it is cropped. Defaults to 4.
    """

    def __init__(
        self, images: Tensor, labels: Tensor, seed: int, batch: int = BATCH, padding: int = 4
    ) -> None:
        self.source, self.source_labels, self.seed = images, labels, seed
        self.batch, self.padding, self.steps = batch, padding, len(images) // batch
        shape = (self.steps, batch)
        self.images = images.new_zeros((*shape, *images.shape[1:]))
        self.labels = labels.new_zeros(shape)

    def begin(self, epoch: int) -> None:
        """Draw anew; the draws depend on the seed and ``epoch`` alone."""
        torch.manual_seed(1000 * self.seed + epoch)
        chosen = torch.randperm(len(self.source), device=self.source.device)[
            : self.steps * self.batch
        ]
        augmented = random_crop_flip(self.source[chosen], self.padding, flip_prob=0.5)
        self.images.copy_(augmented.view_as(self.images))
        self.labels.copy_(self.source_labels[chosen].view_as(self.labels))


def learning_rates(steps: int, warmup: int) -> Tensor:
    """Return factors of the learning rate, ``(steps,)``: linear from 0.01 to 1 over ``warmup`` steps, a cosine to 0."""
    factors = [
        0.01 + 0.99 * i / warmup
        if i < warmup
        else 0.5 + 0.5 * math.cos(math.pi * (i - warmup) / (steps - warmup))
        for i in range(steps)
    ]
    return torch.tensor(factors, dtype=torch.float64)


def build_optimizer(arm: Arm, parameters: Any, rate: Tensor) -> torch.optim.Optimizer:
    """Build the optimizer of ``arm`` with the learning rate in the tensor ``rate``, without reads of the host."""
    if arm.optimizer == 'AdamW':
        on_gpu = rate.device.type == 'cuda'
        return torch.optim.AdamW(parameters, lr=rate, fused=True, capturable=on_gpu)
    options = {key: value for key, value in OPTIMIZER.items() if key not in ('type', 'lr')}
    return torch.optim.SGD(parameters, lr=rate, fused=True, **options)


class Run:
    """One network in training.

    Args:
        arm (Arm): What is trained.
        epoch (Epoch): The data; its seed gives the initial weights too, alike for all arms of a network.
        rates (Tensor): The factor of the learning rate in each step.
        setting (Setting): How it computes.
    """

    def __init__(self, arm: Arm, epoch: Epoch, rates: Tensor, setting: Setting) -> None:
        self.arm, self.epoch, self.setting = arm, epoch, setting
        device = setting.device
        torch.manual_seed(epoch.seed)
        self.model = build_model(arm).to(device).train()
        if setting.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.layers = [m for m in self.model.modules() if isinstance(m, SurgeConv2d)]
        self.mean = torch.tensor(PREPROCESSOR.mean, device=device).view(-1, 1, 1)
        self.std = torch.tensor(PREPROCESSOR.std, device=device).view(-1, 1, 1)
        self.rates = (arm.lr * rates).float().to(device)
        self.rate = torch.zeros((), device=device)
        self.done = torch.zeros(1, dtype=torch.long, device=device)  # steps
        self.loss_sum = torch.zeros((), device=device)
        self.optimizer = build_optimizer(arm, self.model.parameters(), self.rate)
        self.scores = torch.compile(self._scores) if setting.compile else self._scores
        self.stream = torch.cuda.Stream() if device == 'cuda' else None
        self.graph: torch.cuda.CUDAGraph | None = None

    def _scores(self, x: Tensor) -> Tensor:
        return self.model.head(self.model.extract_feat(x))  # type: ignore[operator, union-attr]

    def _normalize(self, images: Tensor) -> Tensor:
        x = (images.float() - self.mean) / self.std
        return x.to(memory_format=torch.channels_last) if self.setting.channels_last else x

    def eager_step(self) -> None:
        """Take one step; nothing is read by the host."""
        batch = self.done % self.epoch.steps
        self.rate.copy_(self.rates.index_select(0, self.done)[0])
        x = self._normalize(self.epoch.images.index_select(0, batch)[0])
        labels = self.epoch.labels.index_select(0, batch)[0]
        with torch.autocast(self.setting.device, torch.bfloat16, enabled=self.setting.bf16):
            scores = self.scores(x)
        loss = F.cross_entropy(scores.float(), labels)
        loss.backward()
        if self.arm.clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.arm.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.loss_sum += loss.detach()
        self.done += 1

    def prepare(self) -> None:
        """Allocate what the first step allocates, and make a graph of the step; the state is then that of before."""
        before = self.state()
        if self.setting.compile:  # the copy start of a branch comes before it is compiled
            self._scores(self._normalize(self.epoch.images[0, :2]))
        if not self.setting.graph:
            self.eager_step()
            self.load(before)
            return
        assert self.stream is not None
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            self.eager_step()
        self.stream.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=self.stream):
            self.eager_step()
        torch.cuda.synchronize()
        self.load(before)

    def step(self) -> None:
        """Take one step: enqueue the graph on the stream of this run, or run eagerly."""
        if self.graph is None:
            self.eager_step()
            return
        with torch.cuda.stream(self.stream):
            self.graph.replay()

    def _optimizer_state(self) -> dict[str, Tensor]:
        """Return what the optimizer holds of each parameter, such as its momentum; empty before the first step."""
        state = self.optimizer.state
        return {
            f'{name}.{key}': value
            for name, p in self.model.named_parameters()
            for key, value in state.get(p, {}).items()
            if value is not None
        }

    def state(self) -> dict[str, Any]:
        """Copy all that changes in training."""
        return {
            'model': {name: value.clone() for name, value in self.model.state_dict().items()},
            'optimizer': {name: value.clone() for name, value in self._optimizer_state().items()},
            'done': self.done.clone(),
            'loss_sum': self.loss_sum.clone(),
        }

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        """Take over a state in place, so that a graph sees it; after :meth:`prepare`."""
        for name, value in self.model.state_dict().items():
            value.copy_(state['model'][name])
        for name, value in self._optimizer_state().items():
            kept = state['optimizer'].get(name)
            value.zero_() if kept is None else value.copy_(kept)
        self.done.copy_(state['done'])
        self.loss_sum.copy_(state['loss_sum'])
        for layer in self.layers:
            if layer.ags_statistics is not None:
                layer.ags_statistics.zero_()

    @torch.no_grad()
    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """Top-1 in %, in evaluation mode."""
        self.model.eval()
        right = torch.zeros((), device=images.device)
        for x, y in zip(images.split(2000), labels.split(2000), strict=True):
            right += (self._scores(self._normalize(x)).argmax(1) == y).sum()
        self.model.train()
        return 100 * right.item() / len(images)

    def stem_growth(self) -> float:
        """Return the norm of the gradient at the output of the stem, divided by that of STE with the same weights."""
        before, scales = self.state(), [layer.scale for layer in self.layers]
        x = self._normalize(self.epoch.source[: self.epoch.batch])
        labels = self.epoch.source_labels[: self.epoch.batch]
        norms = []
        for with_branch in (True, False):
            for layer, scale in zip(self.layers, scales, strict=True):
                layer.scale = scale if with_branch else None
            stem: list[Tensor] = []
            block = self.model.backbone.layer1[0]  # type: ignore[index, union-attr]
            handle = block.register_forward_pre_hook(lambda _, inputs: stem.append(inputs[0]))  # noqa: B023
            loss = F.cross_entropy(self._scores(x), labels)
            handle.remove()
            norms.append(torch.autograd.grad(loss, stem[0])[0].norm().item())
        for layer, scale in zip(self.layers, scales, strict=True):
            layer.scale = scale
        self.load(before)
        return norms[0] / norms[1] if norms[1] else math.nan

    def branch_report(self) -> dict[str, float]:
        """Return lambda and ||W_a|| / ||W_b|| over the layers after the last step, and the number of skipped steps."""
        layers = [layer for layer in self.layers if layer.ags_statistics is not None]
        if not layers:
            return {}
        statistics = torch.stack([layer.ags_statistics for layer in layers])
        report = {
            'lambda': statistics[:, 0].mean().item(),
            'lambda_norm_a/norm_b': (statistics[:, 0] * statistics[:, 2] / statistics[:, 1])
            .median()
            .item(),
            'non_finite': statistics[:, -1].sum().item(),
        }
        pairs = [(layer.aux_weight, layer.weight) for layer in layers]
        ratios = [(a.norm() / b.norm()).item() for a, b in pairs if a is not None]
        report |= {'W_a/W_b_max': max(ratios)} if ratios else {}
        return {name: float(f'{value:.5g}') for name, value in report.items()}
