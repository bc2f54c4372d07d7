"""Numbers of an int8 convolution: steps and bytes of its input and of its weight.

Weights have 7 bits and inputs 8, on every CPU: a CPU without VNNI adds two products in 16 bits, and
``2 * 255 * 63`` is the largest sum that fits. With weights of 8 bits the sums would saturate silently.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from surge_mm.ops.byte_convolution import BYTE, WEIGHT

LARGEST_SUM = 2**31 - 1
RATIOS = 40
"""Ranges that are tried, from the whole range of the values down to a fifth of it."""


class Range(NamedTuple):
    """Range of the input of a layer; what is outside is clipped.

    Attributes:
        low (float): Lower end, at most 0.
        high (float): Upper end, at least 0.
    """

    low: float
    high: float

    def numbers(self) -> tuple[float, float]:
        """Return 1 / step, a float32, and the byte that stands for 0."""
        step = (self.high - self.low) / BYTE or 1.0
        inverse = float(torch.tensor(1 / step, dtype=torch.float32))
        return inverse, float(round(-self.low / step))


def best_range(values: Tensor, low: float, high: float) -> Range:
    """Return the range whose bytes have the least squared error for sampled inputs.

    Args:
        values (Tensor): Samples of the input.
        low (float): Smallest input.
        high (float): Largest input.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    best, least = Range(low, high), float('inf')
    for i in range(RATIOS):
        ratio = 1 - 0.8 * i / RATIOS
        tried = Range(low * ratio, high * ratio)
        inverse, zero = tried.numbers()
        q = (values * inverse).round_().add_(zero).clamp_(0, BYTE)
        error = float((q.sub_(zero).div_(inverse).sub_(values)).square_().mean())
        if error < least:
            best, least = tried, error
    return best


def quantize_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weight of each filter in whole steps, and the steps.

    The step of a filter is that of the least squared error.

    Args:
        weight (Tensor): ``(C_out, C_in / groups, kH, kW)``, real.

    Returns:
        tuple[Tensor, Tensor]: int8, of the shape of the weight; and ``(C_out,)``, float64.
    """
    rows = weight.detach().double().flatten(1)
    largest = rows.abs().amax(1, keepdim=True)
    largest = torch.where(largest > 0, largest, 1.0)
    least, best = torch.full_like(largest, float('inf')), largest / WEIGHT
    for i in range(RATIOS):
        step = largest * (1 - 0.8 * i / RATIOS) / WEIGHT
        q = (rows / step).round_().clamp_(-WEIGHT, WEIGHT)
        error = (q * step - rows).square_().sum(1, keepdim=True)
        best, least = torch.where(error < least, step, best), torch.minimum(error, least)
    q = (rows / best).round_().clamp_(-WEIGHT, WEIGHT)
    return q.to(torch.int8).reshape(weight.shape), best.flatten()
