"""Inference to measure: one network in float32, in int8 and packed."""

from __future__ import annotations

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

from benchmark_cases.peak_memory import reset_peak_memory
from surge_mm.analysis.complexity import model_size
from surge_mm.analysis.forward import network_forward
from surge_mm.deploy import CapturedNetwork, PackedConv2d, pack
from surge_mm.layers import SurgeConv2d
from surge_mm.models import SurgeResNet, to_float

FLOAT, INT8, PACKED, FROM_SIGNS = 'float', 'int8', 'packed', 'packed, from signs'
REAL_INT8 = 'packed, real layers in int8'
CHAIN = 'chain'
LAYERS = 8
"""Layers of a chain."""
RUNS_BEFORE = 2
"""Runs after which a packed network runs as it does from then on: the second is recorded."""
VARIANTS = {
    CHAIN: (FLOAT, PACKED),
    'layer': (FLOAT, INT8, PACKED, FROM_SIGNS),
    'backbone': (FLOAT, INT8, PACKED, REAL_INT8),
    'detector': (FLOAT, PACKED, REAL_INT8),
}
NOT_AVAILABLE = {
    'detector': {
        INT8: "PyTorch's graph mode quantization (FX) does not support the control flow of a detector"
    }
}
"""Variants that cannot be built, and the reason."""
DETECTOR = 'surge_mm::retinanet/ste_retinanet-1bit_r18_fpn_1x_coco.py'


@dataclass(frozen=True)
class Workload:
    """What all variants have in common: the network and the size of one image.

    Args:
        what (str): ``layer`` (binary 3x3 convolution), ``chain`` (several of them with batch norms), ``backbone``
            (SurgeResNet) or ``detector`` (RetinaNet; backbone, neck and head as
            :func:`surge_mm.analysis.forward.network_forward` runs them).
        height (int): height of the image, or of a layer's input, in pixels.
        width (int): width likewise.
        channels (int): channels of a layer or chain. Defaults to 64.
        depth (int): depth of a backbone. Defaults to 18.
    """

    what: str
    height: int
    width: int
    channels: int = 64
    depth: int = 18

    @property
    def name(self) -> str:
        """Name for tables, such as ``64 channels at 56x56``."""
        network = {
            'layer': f'{self.channels} channels',
            CHAIN: f'{LAYERS} x {self.channels} channels',
            'backbone': f'ResNet-{self.depth}',
            'detector': 'detector',
        }[self.what]
        return f'{network} at {self.height}x{self.width}'


class BenchmarkCase:
    """One variant of a workload, ready to run.

    Packed networks run as users run them, by a :class:`surge_mm.deploy.CapturedNetwork`; a layer alone by its module.
    Weights and the statistics of batch norms are random, and the same in all variants. Speed does not depend on them.

    Args:
        variant (str): one of ``VARIANTS[workload.what]``.
        workload (Workload): the network and the size of the image.

    Attributes:
        model (nn.Module): the model, in evaluation mode.
        x (Tensor): its input, shape (1, C, H, W).
        bytes (int): bytes of parameters and statistics that a file of this variant holds.
    """

    def __init__(self, variant: str, workload: Workload) -> None:
        torch.manual_seed(0)
        binary = build(workload)
        self.x: Any = random_image(workload).to(memory_format=torch.channels_last)
        if variant == REAL_INT8:
            self.model = pack(binary, 'int8', [self.x])
        elif variant in (PACKED, FROM_SIGNS):
            self.model = pack(binary)
        else:
            self.model = to_float(binary).eval().requires_grad_(False)
            self.model.to(memory_format=torch.channels_last)
        self.bytes = model_size(self.model).float_bytes
        if variant == REAL_INT8:
            self.bytes = sum(value.nbytes for value in self.model.state_dict().values())
        if variant == INT8:
            # one byte for each weight of a matrix, the rest in float32
            self.bytes -= 3 * sum(p.numel() for p in self.model.parameters() if p.dim() > 1)
            self.model, self.x = _quantized(self.model, self.x, workload)
        self._forward = network_forward(self.model, self.x)
        if variant == FROM_SIGNS:
            assert isinstance(self.model, PackedConv2d)
            signs = self.model.cpu_layer().new_signs(1, workload.channels, self.x.shape[2:])
            self._forward = partial(self.model.run, signs)
        elif variant in (PACKED, REAL_INT8) and workload.what != 'layer':
            network = CapturedNetwork(self.model, lambda x: network_forward(self.model, x)())
            self._forward = partial(network, self.x)

    @torch.inference_mode()
    def run(self) -> Any:
        """Run the network on the image and return its outputs."""
        return self._forward()


def random_image(workload: Workload) -> Tensor:
    """Return a random input of a workload, shape (1, C, H, W)."""
    channels = workload.channels if workload.what in ('layer', CHAIN) else 3
    return torch.randn(1, channels, workload.height, workload.width)


def run_for_peak_memory(variant: str, workload: Workload) -> None:
    """Build a case, then run it on one thread with the peak memory counted from there.

    Args:
        variant (str): as for :class:`BenchmarkCase`.
        workload (Workload): as for :class:`BenchmarkCase`.
    """
    torch.set_num_threads(1)
    silence_hosts()
    case = BenchmarkCase(variant, workload)
    for _ in range(RUNS_BEFORE):
        case.run()
    reset_peak_memory()
    case.run()


def silence_hosts() -> None:
    """Restrict the output of MMEngine and PyTorch's quantization to errors."""
    MMLogger.get_current_instance().setLevel(logging.ERROR)
    warnings.filterwarnings('ignore', module='torch.ao.quantization')


def build(workload: Workload) -> nn.Module:
    """Build the binary model from which all variants are made, in evaluation mode."""
    channels = workload.channels

    def layer() -> SurgeConv2d:
        return SurgeConv2d(channels, channels, 3, padding=1, bias=False, compensator=None)

    if workload.what == 'layer':
        model: nn.Module = layer()
    elif workload.what == CHAIN:
        pairs = [(layer(), nn.BatchNorm2d(channels)) for _ in range(LAYERS)]
        model = nn.Sequential(*(module for pair in pairs for module in pair))
    elif workload.what == 'backbone':
        # Hardtanh in all variants: PyTorch's quantized PReLU is wrong for channels_last
        model = SurgeResNet(workload.depth, act_cfg={'type': 'Hardtanh'})
    else:
        with DefaultScope.overwrite_default_scope('mmdet'):
            model = ROOT_MODELS.build(get_config(DETECTOR).model)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model.eval()


def _quantized(model: nn.Module, x: Tensor, workload: Workload) -> tuple[nn.Module, Tensor]:
    """Quantize a float model to PyTorch's int8, calibrated with ``x``; return it and the input that it takes.

    A layer takes and returns int8, as it does inside a network. A backbone takes and returns float32.
    """
    if workload.what == 'layer':
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
