"""Convolution in bfloat16."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from surge_mm.deploy.real_layers.reduced_conv import ReducedConv2d
from surge_mm.utils.cpu_features import has_bfloat16_units
from surge_mm.utils.logging import log


class BFloat16Conv2d(ReducedConv2d):
    """Convolution of input and weight in bfloat16, with the bias added in float32.

    Where the CPU has no units for bfloat16, the weights, rounded to bfloat16, are multiplied in float32. Other CPUs
    may round the sums otherwise.

    Buffers: ``weight``, bfloat16; ``bias``, ``(C_out,)``, float32, or None.

    Args:
        conv (nn.Conv2d): The convolution.
    """

    dtype = 'bfloat16'
    bias: Tensor | None

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv)
        self.register_buffer('weight', conv.weight.detach().bfloat16())
        bias = conv.bias
        self.register_buffer('bias', None if bias is None else bias.detach().clone())

    def compute(self, x: Tensor) -> Tensor:
        """Return the output.

        Args:
            x (Tensor): ``(N, C_in, H, W)``.
        """
        self.check_input(x)
        if x.is_cpu and not torch.compiler.is_compiling() and not _in_bfloat16():
            weight = self._float_weight()
            return self.convolution.forward(x, weight.to(x.dtype), self.bias, 0.0)
        weight = self.weight.bfloat16()  # model.float() changes its dtype
        out = self.convolution.forward(x.bfloat16(), weight, None, 0.0).to(x.dtype)
        return out if self.bias is None else out.add_(self.bias.view(-1, 1, 1))

    def _float_weight(self) -> Tensor:
        if self._prepared is None:
            self._prepared = self.weight.float().contiguous(memory_format=torch.channels_last)
        return self._prepared


@cache
def _in_bfloat16() -> bool:
    found = has_bfloat16_units()
    if not found:
        log(
            'real layers compute in float32, with weights rounded to bfloat16: this CPU has neither AMX nor AVX512_BF16'
        )
    return found
