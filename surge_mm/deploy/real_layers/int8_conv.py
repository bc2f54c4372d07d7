"""Convolution in int8. Its tensors define the arithmetic, so every CPU gives the same bits.

The input x, float32, becomes bytes q. S is exact, and then rounded to float32. All other steps are in float32, each
operation rounded::

    q = min(max(rint(x inverse) + zero, 0), 255)     to the nearest integer, ties to even; 0 for NaN; zero in the border
    S = sum of q_w q over the window                 |q_w| <= 63
    y = S m1 + a1                                    two roundings, no fused multiply-add
    y = clamp(max(y + p, 0) + slope min(y + p, 0) + c)

The last line is there if an activation follows, as in :mod:`surge_mm.deploy.packing.epilogue`. A max pool may follow.
``m1 = step step_w`` and ``a1 = bias - zero m1 sum(q_w)`` are numbers per output channel, with the batch norm that
follows, computed in float64 and rounded once.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from surge_mm.deploy.cpu.backend import can_run
from surge_mm.deploy.packing.epilogue import Epilogue
from surge_mm.deploy.real_layers.exact_sums import float64_sums
from surge_mm.deploy.real_layers.int8_on_cpu import Int8OnCpu
from surge_mm.deploy.real_layers.quantization import (
    BYTE,
    LARGEST_SUM,
    WEIGHT,
    Range,
    quantize_weight,
)
from surge_mm.deploy.real_layers.reduced_conv import ReducedConv2d


class Int8Conv2d(ReducedConv2d):
    """Convolution in int8, with float32 in and out.

    Buffers: ``weight`` is q_w, int8; ``numbers`` has ``inverse`` and ``zero``; those of ``epilogue``, a
    :class:`surge_mm.deploy.packing.epilogue.Epilogue` without m2 and a2.

    Args:
        conv (nn.Conv2d): The convolution, for which :func:`unsupported_reason` has no reason.
        given (Range, optional): Range of its input. Defaults to None, for a layer whose tensors are loaded later.
        norm (_BatchNorm, optional): The batch norm after it, which becomes part of it. Defaults to None.
        activation (nn.Module, optional): The activation after that, likewise. Defaults to None.
        pool (nn.MaxPool2d, optional): The max pool after that, likewise. Defaults to None.
    """

    dtype = 'int8'
    numbers: Tensor

    def __init__(
        self,
        conv: nn.Conv2d,
        given: Range | None = None,
        norm: _BatchNorm | None = None,
        activation: nn.Module | None = None,
        pool: nn.MaxPool2d | None = None,
    ) -> None:
        super().__init__(conv)
        if given is None:  # finding the steps takes longer than all the rest of loading
            weight, step = torch.zeros_like(conv.weight, dtype=torch.int8), torch.ones(1)
            inverse, zero = 1.0, 0.0
        else:
            weight, step = quantize_weight(conv.weight)
            inverse, zero = given.numbers()
        m1 = step.double() / inverse
        a1 = -zero * m1 * weight.flatten(1).sum(1, dtype=torch.float64)
        if conv.bias is not None:
            a1 = a1 + conv.bias.detach().double()
        if norm is not None:
            m2, a2 = scale_and_shift(norm)
            m1, a1 = m1 * m2, a1 * m2 + a2
        self.register_buffer('weight', weight.contiguous())
        self.register_buffer('numbers', torch.tensor([inverse, zero]))
        self.epilogue = Epilogue(self.out_channels)
        self.epilogue.set('m1', m1)
        self.epilogue.set('a1', a1)
        if activation is not None:
            self.epilogue.fold_activation(activation)
        self.pool = pool

    def compute(self, x: Tensor) -> Tensor:
        """Return the output.

        Args:
            x (Tensor): ``(N, C_in, H, W)``.
        """
        if can_run(x) and x.numel():
            return self._on_cpu().run(x)
        self.check_input(x)
        q = self.quantize(x)
        if x.is_cpu and x.numel() and not torch.compiler.is_compiling():
            sums = self._on_cpu().sums(q)
        else:
            sums = float64_sums(self.weight, self.convolution)(q)
        out = self.epilogue(sums).to(x.dtype)
        return out if self.pool is None else self.pool(out)

    def quantize(self, x: Tensor) -> Tensor:
        """Return the bytes of an input with its border, by operators of PyTorch.

        Args:
            x (Tensor): ``(N, C_in, H, W)``.

        Returns:
            Tensor: uint8, ``(N, C_in, padded height, padded width)``.
        """
        inverse, zero = self.numbers.float()
        y = torch.round(x.float() * inverse) + zero
        y = torch.where(y > 0, y, 0.0)
        y = torch.where(y < BYTE, y, float(BYTE))
        # the padding value of F.pad would have to be a number of Python, which is not in a graph
        y = torch.nn.functional.pad(y - zero, self.convolution.padding) + zero
        return y.to(torch.uint8)

    def _on_cpu(self) -> Int8OnCpu:
        if self._prepared is None:
            numbers = self.numbers.to('cpu', torch.float32)
            table, activates = self.epilogue.table(), self.epilogue.activates()
            self._prepared = Int8OnCpu(
                self.convolution, self.weight.cpu(), numbers, table, activates, self.pool
            )
        return self._prepared


def scale_and_shift(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Return the scale and the shift of a batch norm in evaluation, float64, ``(C,)`` each.

    Args:
        norm (_BatchNorm): A batch norm that :func:`surge_mm.deploy.packing.epilogue.can_fold_norm` accepts.
    """
    assert norm.running_mean is not None and norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.detach().double()
    shift = -norm.running_mean.double() * scale
    return scale, shift if norm.bias is None else shift + norm.bias.detach().double()


def unsupported_reason(conv: nn.Conv2d) -> str:
    """Return the reason why a convolution cannot be computed in int8, or an empty string if it can be."""
    weights = conv.weight[0].numel()
    if not bool(conv.weight.isfinite().all()):
        return 'its weights are not finite'
    if weights * BYTE * WEIGHT > LARGEST_SUM:
        return f'a filter has {weights:,} weights, whose sums do not fit into 32 bits'
    return ''
