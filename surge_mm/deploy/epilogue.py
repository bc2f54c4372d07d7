"""What follows a layer's sums, folded into numbers per channel and done in one pass over them.

With S the sum of signs with signs, and numbers per output channel::

    y   = (m1 S + a1) m2 + a2 + shortcut + p        scale, bias, batch norm, shortcut, RPReLU's first shift
    out = clamp(max(y, 0) + slope min(y, 0) + c)    PReLU, RPReLU's second shift, Hardtanh

A step that is left out has the number that changes nothing, to the bit: 1, and -0.0 (for ``-0.0 + 0.0`` is ``0.0``).
The order and the rounding of each step are PyTorch's, so that the next layer's signs are those of the network that was
trained.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from surge_mm.layers import RPReLU

NOTHING = -0.0
ROWS = {
    'm1': 1.0,
    'a1': NOTHING,
    'm2': 1.0,
    'a2': NOTHING,
    'p': NOTHING,
    'slope': 1.0,
    'c': NOTHING,
    'low': -math.inf,
    'high': math.inf,
}
"""The numbers per channel, in the order of the table, and what leaves a step out."""


class Epilogue(nn.Module):
    """The steps of a layer. What is not left out is a buffer of that name and of shape ``(C_out,)``, float32.

    They are set before the layer runs: it keeps what it made of them.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        for name in ROWS:
            self.register_buffer(name, None)

    def set(self, name: str, values: Tensor) -> None:
        """Let step ``name`` have ``values``, of ``C_out`` elements or one for all."""
        flat = values.detach().reshape(-1).to(torch.float32)
        setattr(self, name, flat.expand(self.channels).clone())

    def fold_norm(self, norm: _BatchNorm) -> None:
        """Take over a batch norm that stands behind: see :func:`can_fold_norm`."""
        assert norm.running_mean is not None and norm.running_var is not None
        m2 = torch.rsqrt(norm.running_var + norm.eps)
        self.set('m2', m2 if norm.weight is None else norm.weight * m2)
        # what it makes of 0 is its shift, rounded as PyTorch rounds it
        zeros = torch.zeros(1, self.channels, device=norm.running_var.device)
        with torch.no_grad():
            learned = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
            self.set('a2', F.batch_norm(zeros, *learned, training=False, eps=norm.eps))

    def fold_activation(self, activation: nn.Module, channels: slice = slice(None)) -> None:
        """Take over an activation that stands behind: see :func:`can_fold_activation`.

        Args:
            activation: The activation.
            channels: Which of its channels are those of this layer.
        """
        if isinstance(activation, RPReLU):
            self.set('p', activation.a[channels])
            self.set('c', activation.c[channels])
            activation = activation.prelu
        if isinstance(activation, nn.PReLU):
            weight = activation.weight
            self.set('slope', weight if weight.numel() == 1 else weight[channels])
        elif isinstance(activation, nn.LeakyReLU):
            self.set('slope', torch.tensor(activation.negative_slope))
        elif isinstance(activation, nn.Hardtanh):
            self.set('low', torch.tensor(float(activation.min_val)))
            self.set('high', torch.tensor(float(activation.max_val)))
        else:
            raise TypeError(f'{type(activation).__name__} cannot be folded')

    def activates(self) -> bool:
        """Whether there is a step behind the shortcut."""
        return any(getattr(self, name) is not None for name in ('p', 'slope', 'c', 'low', 'high'))

    def table(self) -> Tensor:
        """All numbers, of shape ``(len(ROWS), C_out)``, float32 on the CPU whatever the buffers are."""
        given = [getattr(self, name) for name in ROWS]
        return torch.stack(
            [
                torch.full((self.channels,), default, dtype=torch.float32)
                if values is None
                else values.to('cpu', torch.float32)
                for values, default in zip(given, ROWS.values(), strict=True)
            ]
        )

    def forward(
        self, sums: Tensor, shortcut: Tensor | None = None, extra: Tensor | None = None
    ) -> Tensor:
        """The steps in PyTorch's operators.

        Args:
            sums (Tensor): S, ``(N, C_out, H, W)``.
            shortcut (Tensor, optional): Of that shape.
            extra (Tensor, optional): Of that shape, added behind m1: what filters of two values besides +-1 add.
        """

        def step(name: str) -> Tensor:
            return getattr(self, name).view(-1, 1, 1)

        y = sums if self.m1 is None else sums * step('m1')
        if extra is not None:
            y = y + extra
        if self.a1 is not None:
            y = y + step('a1')
        if self.m2 is not None:  # one rounding, as in batch norm
            y = (y.double() * step('m2').double() + step('a2').double()).to(sums.dtype)
        if shortcut is not None:
            y = y + shortcut
        if self.p is not None:
            y = y + step('p')
        if self.slope is not None:
            y = torch.where(y > 0, y, y * step('slope'))
        if self.c is not None:
            y = y + step('c')
        if self.low is not None:
            y = torch.minimum(torch.maximum(y, step('low')), step('high'))
        return y


def can_fold_norm(norm: nn.Module) -> bool:
    """Whether it is a batch norm that computes with what it has learned, and so is a scale and a shift per channel."""
    return isinstance(norm, _BatchNorm) and norm.running_mean is not None


def can_fold_activation(activation: nn.Module) -> bool:
    """Whether :meth:`Epilogue.fold_activation` knows it."""
    return type(activation) in (nn.PReLU, nn.LeakyReLU, nn.Hardtanh, RPReLU)
