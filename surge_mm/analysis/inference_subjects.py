"""What :file:`tools/benchmark_inference.py` measures: one structure in float32, in int8 and packed."""

from __future__ import annotations

import copy
import logging
import warnings
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from mmengine.hub import get_config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import DefaultScope
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from surge_mm.analysis.forward import forward_of
from surge_mm.analysis.peak_memory import forget_peak
from surge_mm.deploy import PackedConv2d, pack
from surge_mm.layers import SurgeConv2d
from surge_mm.models import SurgeResNet, to_float

FLOAT, INT8, PACKED, FROM_SIGNS = 'float', 'int8', 'packed', 'packed, from signs'
DETECTOR = 'surge_mm::coco/retinanet-1bit_r18_fpn_12e_coco_ste.py'
VARIANTS = {
    'layer': (FLOAT, INT8, PACKED, FROM_SIGNS),
    'backbone': (FLOAT, INT8, PACKED),
    'detector': (FLOAT, PACKED),
}
NOT_AVAILABLE = {
    'detector': {
        INT8: "PyTorch's quantization by graph (FX) does not take the control flow of a detector"
    }
}
"""Variants that there are not, and why."""


@dataclass(frozen=True)
class Setting:
    """One structure; its input is one image.

    Args:
        what: ``layer`` (binary 3x3 convolution), ``backbone`` (SurgeResNet) or ``detector`` (its network: backbone,
            neck and head, as :func:`surge_mm.analysis.forward.forward_of` runs it).
        height: Of the image, or of a layer's input, in pixels.
        width: As ``height``.
        channels: Of a layer.
        depth: Of a backbone.
        model: Config of a detector.
    """

    what: str
    height: int
    width: int
    channels: int = 64
    depth: int = 18
    model: Any = None

    @property
    def name(self) -> str:
        size = f'{self.height}x{self.width}'
        if self.what == 'layer':
            return f'{self.channels} channels at {size}'
        return (
            f'ResNet-{self.depth} at {size}' if self.what == 'backbone' else f'detector at {size}'
        )


class Subject:
    """One variant of a structure: ``run()`` is what is timed.

    Weights are random and the same for all variants, and the statistics of batch norms are drawn: speed does not depend
    on them.

    Attributes:
        model (nn.Module): The model.
        x (Tensor): Its input.
        bytes (int): What its file has to hold: parameters and statistics, as far as they are not folded.
    """

    def __init__(self, variant: str, setting: Setting) -> None:
        torch.manual_seed(0)
        binary = build(setting)
        channels = setting.channels if setting.what == 'layer' else 3
        x = torch.randn(1, channels, setting.height, setting.width)
        self.x: Any = x.to(memory_format=torch.channels_last)
        if variant in (PACKED, FROM_SIGNS):
            self.model = pack(binary)
        else:
            self.model = to_float(binary).eval().requires_grad_(False)
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.bytes = sum(value.nbytes for value in self.model.state_dict().values())
        if variant == INT8:
            # a byte for each weight of a matrix, the rest as it is
            matrices = sum(p.numel() for p in self.model.parameters() if p.dim() > 1)
            self.bytes -= 3 * matrices
            self.model, self.x = _quantized(self.model, self.x, setting)
        self._call = forward_of(self.model, self.x)
        if variant == FROM_SIGNS:
            assert isinstance(self.model, PackedConv2d)
            self._call = partial(self.model.run, self.model.signs_of(self.x))

    @torch.inference_mode()
    def run(self) -> Any:
        return self._call()


def run_built(variant: str, setting: Setting) -> None:
    """What a process of its own does whose memory is measured: runs, one thread, not the building and packing."""
    torch.set_num_threads(1)
    quiet()
    subject = Subject(variant, setting)
    subject.run()
    forget_peak()
    subject.run()


def quiet() -> None:
    """Let the hosts say nothing but errors."""
    MMLogger.get_current_instance().setLevel(logging.ERROR)
    warnings.filterwarnings('ignore', module='torch.ao.quantization')


def build(setting: Setting) -> nn.Module:
    """The binary model of which the variants are made, in evaluation mode."""
    if setting.what == 'layer':
        model: nn.Module = SurgeConv2d(
            setting.channels, setting.channels, 3, padding=1, bias=False, compensator=None
        )
    elif setting.what == 'backbone':
        # PyTorch's quantized PReLU gives wrong values for channels_last; all variants have Hardtanh
        model = SurgeResNet(setting.depth, act_cfg={'type': 'Hardtanh'})
    else:
        cfg = copy.deepcopy(get_config(DETECTOR).model if setting.model is None else setting.model)
        with DefaultScope.overwrite_default_scope('mmdet'):
            model = ROOT_MODELS.build(cfg)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            assert module.running_mean is not None and module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model.eval()


def _quantized(model: nn.Module, x: Tensor, setting: Setting) -> tuple[nn.Module, Tensor]:
    """The model in PyTorch's int8, for activations as ``x`` makes them, and the input that it takes.

    A layer takes int8 and gives int8, as it does within a network; a backbone takes and gives float32.
    """
    if setting.what == 'layer':
        assert isinstance(model, nn.Conv2d)
        layer = torch.ao.nn.quantized.Conv2d(
            model.in_channels, model.out_channels, 3, padding=1, bias=False
        )
        largest = model.weight.abs().amax((1, 2, 3))
        zeros = torch.zeros(len(largest), dtype=torch.long)
        weight = torch.quantize_per_channel(model.weight, largest / 127, zeros, 0, torch.qint8)
        layer.set_weight_bias(weight, None)
        layer.scale, layer.zero_point = 0.05, 64
        x = torch.quantize_per_tensor(x, 0.05, 64, torch.quint8)
        return layer, x.contiguous(memory_format=torch.channels_last)
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        prepared = prepare_fx(model, get_default_qconfig_mapping(), (x,))
        with torch.no_grad():
            prepared(x)
        return convert_fx(prepared), x
