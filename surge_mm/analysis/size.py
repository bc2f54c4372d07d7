"""How many bits the weights of a model take once it is trained."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from surge_mm.layers import BinaryLayer
from surge_mm.ops import Real


@dataclass(frozen=True)
class Size:
    """Sizes in bits.

    Attributes:
        binary: The signs of binary weights, one bit each.
        real: All else, 32 bits a number: real weights, biases, norms, and what a binary filter needs beside signs.
        float: The same network with every weight in 32 bits.
    """

    binary: int
    real: int
    float: int

    @property
    def total(self) -> int:
        return self.binary + self.real


def size_in_bits(model: nn.Module) -> Size:
    """Size of what inference needs: auxiliary weights count for nothing, persistent buffers are not counted."""
    binary_weights, scales = 0, 0
    auxiliary = set()
    for module in model.modules():
        if isinstance(module, BinaryLayer):
            auxiliary.add(id(module.aux_weight))
            if isinstance(module.weight_binarizer, Real):
                continue
            binary_weights += module.weight.numel()
            scales += module.weight_binarizer.numbers_per_filter * module.weight.shape[0]
    numbers = sum(p.numel() for p in model.parameters() if id(p) not in auxiliary)
    real = 32 * (numbers - binary_weights + scales)
    return Size(binary=binary_weights, real=real, float=32 * numbers)
