"""What a binary layer is, beside its tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from surge_mm.ops.binarizers.activation import ActivationBinarizer
from surge_mm.ops.binarizers.scheduled import Scheduled
from surge_mm.ops.binarizers.weight import WeightBinarizer
from surge_mm.ops.gradient_scale import GradientScale
from surge_mm.ops.linear_maps import BilinearMap


@dataclass(frozen=True)
class DualPathSpec:
    """Everything of a layer that is not a tensor.

    Args:
        map (BilinearMap): The convolution or the linear map.
        activation (ActivationBinarizer): Q_x.
        weight (WeightBinarizer): Q_W.
        scale (GradientScale, optional): The rule for lambda. Defaults to None: no correction, the
            gradients are those of the plain binary layer.
        pad_value (float): Padding value of the binarized input. (The branch's real input is padded with zeros.)
            Defaults to 0.
        compute_dtype (torch.dtype, optional): The dtype of the products under autocast. Defaults to None: that of the
            input.
        observe (bool): Whether the backward pass also records ``cos`` and ``clipped``. Defaults to False.
        branch_dtype (torch.dtype, optional): The dtype of the products of the branch, g_a and dL/dW_a. The norms, lam
            and the sum of g_b and lam g_a keep theirs. Defaults to None: the dtype of the output.
    """

    map: BilinearMap
    activation: ActivationBinarizer
    weight: WeightBinarizer
    scale: GradientScale | None = None
    pad_value: float = 0.0
    compute_dtype: torch.dtype | None = None
    observe: bool = False
    branch_dtype: torch.dtype | None = None


def read_constants(spec: DualPathSpec) -> None:
    """Read the constants of a layer. In code that is compiled, call this before :class:`.DualPath` reads them.

    With ``torch.compile(dynamic=True)`` (2.12), a Python number becomes an input of the function that reads it first.
    Where that is an autograd function, a second one that reads the number fails.

    Args:
        spec (DualPathSpec): The layer.
    """
    constants: list[Any] = []
    for part in (spec.scale, spec.activation, spec.weight):
        if part is not None:
            constants += [getattr(part, name) for name in vars(part) if name[0] != '_']
        if isinstance(part, Scheduled):
            constants.append(part._compiled_progress)
    for constant in constants:
        isinstance(constant, float)  # the compiler defers the reading to the first use
