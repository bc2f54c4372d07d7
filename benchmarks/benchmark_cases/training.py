"""Training steps to measure: one network with its 3x3 convolutions in several variants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from mmcv.cnn import build_conv_layer
from mmdet.structures import DetDataSample
from mmengine.hub import get_config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor, nn

from benchmark_cases import baselines  # noqa: F401  registers its layers
from surge_mm.layers import BinaryLayer
from surge_mm.models import SurgeResNet

FULL, USUAL, PLAIN, NAIVE, SURGE, LITE, SURGE_BF16, LITE_BF16 = (
    'full precision',
    'usual STE',
    'STE',
    'naive SURGE',
    'SURGE',
    'SURGE lite',
    'SURGE, bf16 branch',
    'SURGE lite, bf16 branch',
)
CONVOLUTIONS: dict[str, dict[str, Any] | None] = {
    FULL: None,
    USUAL: {'type': 'benchmarks.UsualSTEConv2d'},
    PLAIN: {'type': 'surge_mm.SurgeConv2d', 'compensator': None},
    NAIVE: {'type': 'benchmarks.NaiveSurgeConv2d'},
    SURGE: {'type': 'surge_mm.SurgeConv2d', 'compensator': {'eta': 0.1}},
    LITE: {'type': 'surge_mm.SurgeConv2d', 'compensator': {'eta': 0.1, 'tied': True}},
    SURGE_BF16: {
        'type': 'surge_mm.SurgeConv2d',
        'compensator': {'eta': 0.1, 'dtype': 'bfloat16'},
    },
    LITE_BF16: {
        'type': 'surge_mm.SurgeConv2d',
        'compensator': {'eta': 0.1, 'tied': True, 'dtype': 'bfloat16'},
    },
}
"""``conv_cfg`` of each variant."""


@dataclass(frozen=True)
class Workload:
    """What all variants have in common: the network, the size of a step and how it runs.

    Args:
        what (str): ``layer`` (3x3 convolution), ``backbone`` (ResNet), ``resnet20`` (ResNet-20 for CIFAR, PReLU) or
            ``detector`` (Faster R-CNN with ResNet-18 and FPN).
        batch (int): images in a step.
        pixels (int): height and width of the images, or of a layer's input.
        channels (int): channels of a layer, or of a backbone's first stage. Defaults to 64.
        depth (int): depth of a backbone. Defaults to 18.
        device (str): ``cpu`` or ``cuda``. Defaults to ``cpu``.
        dtype (str): ``fp32``, or ``bf16`` for autocast to bfloat16. Defaults to ``fp32``.
        channels_last (bool): whether weights and inputs have the channels_last memory format. Defaults to False.
        with_cp (bool): whether the blocks of a backbone are recomputed in the backward pass. Defaults to False.
        compile (bool): whether ``torch.compile`` compiles the model. Defaults to False.
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


class BenchmarkCase:
    """One variant of a workload, with random data.

    Args:
        variant (str): a key of ``CONVOLUTIONS``.
        workload (Workload): the network and the size of a step.

    Attributes:
        model (nn.Module): the model.
        inputs (Tensor): the images, shape (N, 3, H, W), or the input of a layer, shape (N, C, H, W).
        names (list[str]): the names of the convolutions that are binary in the binary variants.
    """

    def __init__(self, variant: str, workload: Workload) -> None:
        torch.manual_seed(0)
        self.workload = workload
        model = _build(CONVOLUTIONS[variant], workload).to(workload.device).train()
        if workload.channels_last:
            model = model.to(memory_format=torch.channels_last)
        self.model = model
        self.names = [''] if workload.what == 'layer' else inner_convolutions(model)
        self.inputs = _inputs(workload)
        self._samples = _samples(workload) if workload.what == 'detector' else []
        self._call = torch.compile(model) if workload.compile else model
        self._optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)

    def loss(self) -> Tensor:
        """Run the model forward and return the loss, a scalar."""
        torch.manual_seed(0)  # all variants sample the same regions
        with torch.autocast(
            self.workload.device, torch.bfloat16, enabled=self.workload.dtype == 'bf16'
        ):
            if self._samples:
                losses = self._call(self.inputs, self._samples, mode='loss')
                return self.model.parse_losses(losses)[0]
            outputs = self._call(self.inputs)
            last = outputs if torch.is_tensor(outputs) else outputs[-1]
            return last.square().mean()

    def step(self) -> None:
        """Train one step: forward, backward and SGD with momentum."""
        self.loss().backward()
        self._optimizer.step()
        self._optimizer.zero_grad()


def train_two_steps(variant: str, workload: Workload, threads: int) -> None:
    """Build a case and train two steps, whose peak memory is measured.

    Args:
        variant (str): as for :class:`BenchmarkCase`.
        workload (Workload): as for :class:`BenchmarkCase`.
        threads (int): number of threads of PyTorch.
    """
    torch.set_num_threads(threads)
    MMLogger.get_current_instance().setLevel('ERROR')
    case = BenchmarkCase(variant, workload)
    for _ in range(2):
        case.step()


def inner_convolutions(model: nn.Module) -> list[str]:
    """Return the names of the 3x3 convolutions in the blocks of a backbone, which binary variants binarize."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, (nn.Conv2d, BinaryLayer))
        and '.conv' in name
        and 'layer' in name
        and module.kernel_size == (3, 3)
    ]


def _build(conv_cfg: dict[str, Any] | None, workload: Workload) -> nn.Module:
    if workload.what == 'layer':
        size = (workload.channels, workload.channels, 3)
        return build_conv_layer(conv_cfg, *size, padding=1, bias=False)
    if workload.what == 'backbone':
        return SurgeResNet(
            workload.depth,
            base_channels=workload.channels,
            conv_cfg=conv_cfg,
            with_cp=workload.with_cp,
        )
    if workload.what == 'resnet20':
        backbone = get_config('surge_mm::_base_/models/resnet20_cifar.py').model.backbone
        settings = {'base_channels': workload.channels, 'act_cfg': {'type': 'PReLU'}}
        return ROOT_MODELS.build({**backbone, **settings, 'conv_cfg': conv_cfg})
    cfg = get_config('surge_mm::_base_/models/faster-rcnn_r18_fpn.py')
    cfg.model.backbone.update(init_cfg=None, conv_cfg=conv_cfg)
    with DefaultScope.overwrite_default_scope('mmdet'):
        return ROOT_MODELS.build(cfg.model)


def _inputs(workload: Workload) -> Tensor:
    channels = workload.channels if workload.what == 'layer' else 3
    x = torch.randn(
        workload.batch, channels, workload.pixels, workload.pixels, device=workload.device
    )
    if workload.channels_last:
        x = x.to(memory_format=torch.channels_last)
    return x.requires_grad_(workload.what == 'layer')


def _samples(workload: Workload) -> list[DetDataSample]:
    """Return annotations of eight random boxes for each image."""
    samples = []
    for _ in range(workload.batch):
        corners = torch.rand(8, 2, device=workload.device) * workload.pixels / 2
        boxes = torch.cat([corners, corners + workload.pixels / 4], dim=1)
        labels = torch.randint(0, 80, (8,), device=workload.device)
        shape = (workload.pixels, workload.pixels)
        sample = DetDataSample(gt_instances=InstanceData(bboxes=boxes, labels=labels))
        sample.set_metainfo({'img_shape': shape, 'batch_input_shape': shape, 'pad_shape': shape})
        samples.append(sample)
    return samples
