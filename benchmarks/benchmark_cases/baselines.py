"""Binary convolutions that SURGE is compared with, in a registry of their own.

:class:`UsualSTEConv2d` is a binary convolution as most code writes it. :class:`NaiveSurgeConv2d` is SURGE written by
its formula. No network of surge_mm uses them.
"""

from __future__ import annotations

from typing import Any

import torch
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import Registry
from torch import Tensor, nn

from surge_mm.ops import sign

BASELINES = Registry('model', parent=ROOT_MODELS, scope='benchmarks')


class ActivationSign(torch.autograd.Function):
    """Sign with the surrogate gradient of Bi-Real Net, as a separate autograd step that saves x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return sign(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * (2 - 2 * x.abs()).clamp(min=0)


class WeightSign(torch.autograd.Function):
    """Scaled sign with a straight-through gradient, as a separate autograd step."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        return sign(weight) * weight.abs().mean(dim=(1, 2, 3), keepdim=True)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


@BASELINES.register_module()
class UsualSTEConv2d(nn.Conv2d):
    """Binary convolution of two autograd steps for the signs, followed by a convolution.

    Shapes: as :class:`torch.nn.Conv2d`, whose arguments it takes.
    """

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(ActivationSign.apply(x), WeightSign.apply(self.weight), self.bias)


@BASELINES.register_module()
class NaiveSurgeConv2d(UsualSTEConv2d):
    """SURGE by its formula with lambda = 0.1: the forward of the auxiliary branch is computed and cancels.

    Shapes: as :class:`torch.nn.Conv2d`, whose arguments it takes.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.aux_weight = nn.Parameter(self.weight.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        branch = 0.1 * self._conv_forward(x, self.aux_weight, None)
        return super().forward(x) - branch.detach() + branch
