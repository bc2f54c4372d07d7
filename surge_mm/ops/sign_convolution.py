"""Convolution of signs with signs on a CPU that multiplies bytes: exact, and about twice as fast as in float32."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from surge_mm.ops.binarizers.weight import TwoValues
from surge_mm.ops.byte_convolution import byte_convolution, what_fails_in_onednn
from surge_mm.ops.chunking import is_transforming
from surge_mm.ops.dual_path_spec import DualPathSpec
from surge_mm.ops.linear_maps import Convolution
from surge_mm.ops.signs import is_exporting
from surge_mm.utils.cpu_features import has_byte_units

LEAST_OUTPUTS, LEAST_PRODUCTS = 1 << 10, 1 << 27
"""Outputs of a filter and products of a convolution from which bytes are faster. Each call reorders the weight."""


def can_use_bytes(spec: DualPathSpec, x: Tensor, w: Tensor) -> bool:
    """Return whether :func:`convolve_signs` can compute a layer of signs, and is faster than its usual convolution.

    It is not faster than a convolution in bfloat16, as under autocast, where the CPU has units for that.

    Args:
        spec (DualPathSpec): The layer.
        x (Tensor): Input.
        w (Tensor): Weight, whose shape and dtype count.
    """
    map = spec.map
    if torch.compiler.is_compiling() or is_exporting() or is_transforming(x):
        return False
    if not isinstance(map, Convolution) or x.dim() != 4 or x.shape[1] != w.shape[1] * map.groups:
        return False
    if type(x) is not Tensor or x.device.type != 'cpu' or w.device != x.device:
        return False
    if {x.dtype, w.dtype, spec.compute_dtype or x.dtype} != {torch.float32}:
        return False
    if spec.pad_value not in (-1, 0, 1):
        return False
    rows, columns = map.output_size(x.shape[2], x.shape[3], (w.shape[2], w.shape[3]))
    outputs = len(x) * rows * columns
    enough = outputs >= LEAST_OUTPUTS and outputs * w.numel() >= LEAST_PRODUCTS
    return enough and min(rows, columns) > 0 and has_byte_units() and not what_fails_in_onednn()


def convolve_signs(spec: DualPathSpec, x: Tensor, weight: TwoValues) -> Tensor:
    """Return ``alpha (sign(z) * sign(x))``, where :func:`can_use_bytes`.

    The sums are whole numbers, which bytes give exactly, and the product with alpha is rounded once. So the output does
    not depend on threads or on the memory format. It has that of ``x``.

    Args:
        spec (DualPathSpec): The layer: its convolution and padding value.
        x (Tensor): Input, ``(N, C_in, H, W)``; only its sign bits matter.
        weight (TwoValues): z and alpha. Its offset is not used.
    """
    assert isinstance(spec.map, Convolution)
    # bytes 0 and 2 stand for the signs, and 1 for 0; with the sign bits themselves, both signs are reversed
    q = x.signbit().view(torch.uint8).mul_(2)
    q = F.pad(q, spec.map.padding, value=1 - spec.pad_value)
    q = q.contiguous(memory_format=torch.channels_last)
    signs = weight.z.signbit().view(torch.int8).mul_(2).sub_(1)
    factor = weight.alpha.reshape(-1).expand(len(signs)).contiguous()
    out = byte_convolution(signs, spec.map, tuple(q.shape), 1, factor)(q)
    return out.contiguous() if x.is_contiguous() else out
