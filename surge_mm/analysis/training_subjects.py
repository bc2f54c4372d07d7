"""What :file:`tools/benchmark_training.py` measures: one structure, its convolutions in several variants.

The two that a user of ours would replace stand here alone, and in no network of ours: binary convolutions as most code
has them (:class:`UsualSTEConv2d`), and SURGE by its formula (:class:`NaiveSurgeConv2d`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from mmcv.cnn import build_conv_layer
from mmdet.structures import DetDataSample
from mmengine.hub import get_config
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor, nn

from surge_mm.layers import BinaryLayer
from surge_mm.ops import sign
from surge_mm.registry import MODELS

FULL, USUAL, PLAIN, NAIVE, SURGE, LITE = (
    'full precision',
    'usual STE',
    'STE',
    'naive SURGE',
    'SURGE',
    'SURGE lite',
)


class ActivationSign(torch.autograd.Function):
    """Sign with Bi-Real Net's surrogate as a step of its own: it keeps x, and the convolution keeps sign(x)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return sign(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return g * (2 - 2 * x.abs()).clamp(min=0)


class WeightSign(torch.autograd.Function):
    """The scaled sign, straight through."""

    @staticmethod
    def forward(ctx: Any, w: Tensor) -> Tensor:
        return sign(w) * w.abs().mean(dim=(1, 2, 3), keepdim=True)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g


@MODELS.register_module()
class UsualSTEConv2d(nn.Conv2d):
    """A binary convolution as most code has it: two autograd steps, then a convolution."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(ActivationSign.apply(x), WeightSign.apply(self.weight), self.bias)


@MODELS.register_module()
class NaiveSurgeConv2d(UsualSTEConv2d):
    """SURGE by its formula, with lambda = 0.1: the forward of the branch is computed, and cancels."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.aux_weight = nn.Parameter(self.weight.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        branch = 0.1 * self._conv_forward(x, self.aux_weight, None)
        return super().forward(x) - branch.detach() + branch


CONVOLUTIONS: dict[str, dict[str, Any] | None] = {
    FULL: None,
    USUAL: {'type': 'surge_mm.UsualSTEConv2d'},
    PLAIN: {'type': 'surge_mm.SurgeConv2d', 'compensator': None},
    NAIVE: {'type': 'surge_mm.NaiveSurgeConv2d'},
    SURGE: {'type': 'surge_mm.SurgeConv2d', 'compensator': {'eta': 0.1}},
    LITE: {'type': 'surge_mm.SurgeConv2d', 'compensator': {'eta': 0.1, 'tied': True}},
}


@dataclass(frozen=True)
class Setting:
    """What the variants have in common.

    Args:
        what: ``layer`` (3x3), ``backbone`` (ResNet) or ``detector`` (Faster R-CNN with ResNet-18 and FPN).
        batch: Images a step.
        pixels: Their height and width, or those of a layer's input.
        channels: Of a layer, or of a backbone's first stage.
        depth: Of a backbone.
        device: ``cpu`` or ``cuda``.
        dtype: ``fp32``, or ``bf16`` for autocast.
        channels_last: The memory format.
        with_cp: Whether a backbone's blocks are computed again in the backward pass.
        compile: Whether ``torch.compile`` compiles the model.
    """

    what: str
    batch: int
    pixels: int
    channels: int = 64
    depth: int = 18
    device: str = 'cpu'
    dtype: str = 'fp32'
    channels_last: bool = False
    with_cp: bool = False
    compile: bool = False


class Subject:
    """A model of one variant with random data: ``loss()`` runs it forward, ``step()`` trains it.

    Attributes:
        model (nn.Module): The model.
        names (list[str]): Its convolutions that are binary in the binary variants.
    """

    def __init__(self, variant: str, setting: Setting) -> None:
        torch.manual_seed(0)
        self.setting = setting
        model = _build(CONVOLUTIONS[variant], setting).to(setting.device).train()
        if setting.channels_last:
            # PyTorch's stubs know no memory_format here
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model = model
        self.names = [''] if setting.what == 'layer' else inner_convolutions(model)
        self._optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
        self._call = torch.compile(model) if setting.compile else model
        self._inputs = _inputs(setting)
        self._samples = _samples(setting) if setting.what == 'detector' else []

    def loss(self) -> Tensor:
        torch.manual_seed(0)  # the same regions are sampled for all variants
        with torch.autocast(
            self.setting.device, torch.bfloat16, enabled=self.setting.dtype == 'bf16'
        ):
            if self._samples:
                losses = self._call(self._inputs, self._samples, mode='loss')
                parsed: Tensor = self.model.parse_losses(losses)[0]  # type: ignore[operator]
                return parsed
            out = self._call(self._inputs)
            last: Tensor = out if torch.is_tensor(out) else out[-1]
            return last.square().mean()

    def step(self) -> None:
        self.loss().backward()
        self._optimizer.step()
        self._optimizer.zero_grad()


def _build(conv_cfg: dict[str, Any] | None, setting: Setting) -> nn.Module:
    if setting.what == 'layer':
        size = (setting.channels, setting.channels, 3)
        return build_conv_layer(conv_cfg, *size, padding=1, bias=False)
    if setting.what == 'backbone':
        return MODELS.build(
            {
                'type': 'surge_mm.SurgeResNet',
                'depth': setting.depth,
                'base_channels': setting.channels,
                'conv_cfg': conv_cfg,
                'with_cp': setting.with_cp,
            }
        )
    cfg = get_config('surge_mm::_base_/models/faster-rcnn_surge-r18_fpn.py')
    cfg.model.backbone.update(init_cfg=None, conv_cfg=conv_cfg)
    with DefaultScope.overwrite_default_scope('mmdet'):
        return ROOT_MODELS.build(cfg.model)


def _inputs(setting: Setting) -> Tensor:
    channels = setting.channels if setting.what == 'layer' else 3
    x = torch.randn(setting.batch, channels, setting.pixels, setting.pixels, device=setting.device)
    if setting.channels_last:
        x = x.to(memory_format=torch.channels_last)
    return x.requires_grad_(setting.what == 'layer')


def _samples(setting: Setting) -> list[DetDataSample]:
    """Eight random boxes an image."""
    samples = []
    for _ in range(setting.batch):
        corners = torch.rand(8, 2, device=setting.device) * setting.pixels / 2
        boxes = torch.cat([corners, corners + setting.pixels / 4], dim=1)
        labels = torch.randint(0, 80, (8,), device=setting.device)
        shape = (setting.pixels, setting.pixels)
        sample = DetDataSample(gt_instances=InstanceData(bboxes=boxes, labels=labels))
        sample.set_metainfo({'img_shape': shape, 'batch_input_shape': shape, 'pad_shape': shape})
        samples.append(sample)
    return samples


def inner_convolutions(model: nn.Module) -> list[str]:
    """The names of the convolutions that are binary in the binary variants: 3x3 within the backbone's blocks."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, (nn.Conv2d, BinaryLayer))
        and '.conv' in name
        and 'layer' in name
        and module.kernel_size == (3, 3)
    ]
