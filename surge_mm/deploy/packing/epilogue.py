"""Epilogue of a packed layer: the steps after its sums, folded into numbers per output channel.

S is the sum of products of signs. All steps are computed in one pass::

    y   = (m1 S + a1) m2 + a2 + shortcut + p        scale, bias, batch norm, shortcut, first shift of RPReLU
    out = clamp(max(y, 0) + slope min(y, 0) + c)    PReLU, second shift of RPReLU, Hardtanh or ReLU

A step that is left out has its neutral number: 1 for a factor, -0.0 for a term (``x + 0.0`` would change ``-0.0``).
Order and rounding of the steps are those of PyTorch, so the signs for the next layer are those of the trained network.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from surge_mm.layers import RPReLU
from surge_mm.layers.memory_format import has_hooks
from surge_mm.models.binarization.layer_candidates import forward_path

NORM_FORWARDS = {
    'torch.nn.modules.batchnorm._BatchNorm',
    'torch.nn.modules.batchnorm.SyncBatchNorm',
}
"""Batch norms that can be folded. A subclass with a ``forward`` of its own may compute more, such as an activation."""
RELUS = {nn.ReLU: math.inf, nn.ReLU6: 6.0}
"""Largest output of each ReLU. Packed files have no tensor of a ReLU: those of earlier versions lack it."""
NEUTRAL_TERM = -0.0
ROWS = {
    'm1': 1.0,
    'a1': NEUTRAL_TERM,
    'm2': 1.0,
    'a2': NEUTRAL_TERM,
    'p': NEUTRAL_TERM,
    'slope': 1.0,
    'c': NEUTRAL_TERM,
    'low': -math.inf,
    'high': math.inf,
}
"""Steps in the order of the table, with their neutral numbers."""


class Epilogue(nn.Module):
    """Steps of a layer, each a buffer ``(C_out,)``, float32, named as in :data:`ROWS`; None if it is left out.

    Steps are set before the layer first runs.

    Args:
        channels (int): Output channels, C_out.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        for name in ROWS:
            self.register_buffer(name, None)

    def set(self, name: str, values: Tensor, stored: bool = True) -> None:
        """Set a step.

        Args:
            name (str): Name of the step.
            values (Tensor): C_out numbers, or one for all channels.
            stored (bool): Whether they are part of the state dict. Defaults to True.
        """
        flat = values.detach().reshape(-1).to(torch.float32)
        self.register_buffer(name, flat.expand(self.channels).clone(), persistent=stored)

    def fold_norm(self, norm: _BatchNorm) -> None:
        """Fold the batch norm after the layer into the epilogue.

        Args:
            norm (_BatchNorm): A batch norm that :func:`can_fold_norm` accepts.
        """
        assert norm.running_mean is not None and norm.running_var is not None
        m2 = torch.rsqrt(norm.running_var + norm.eps)
        m2 = m2 if norm.weight is None else norm.weight * m2
        self.set('m2', m2)
        # the output for 0 is the shift, rounded as PyTorch rounds it; m2 times this 0 is -0.0, which keeps one of -0.0
        zeros = -torch.copysign(torch.zeros_like(m2), m2)[None]
        with torch.no_grad():
            learned = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
            self.set('a2', F.batch_norm(zeros, *learned, training=False, eps=norm.eps))

    def fold_activation(self, activation: nn.Module, channels: slice = slice(None)) -> None:
        """Fold the activation after the layer into the epilogue.

        Args:
            activation (nn.Module): An activation that :func:`can_fold_activation` accepts.
            channels (slice): The channels of the activation that belong to this layer. Defaults to all.

        Raises:
            TypeError: if the activation cannot be folded.
        """
        if type(activation) in RELUS:
            self.set('low', torch.tensor(0.0), stored=False)
            self.set('high', torch.tensor(RELUS[type(activation)]), stored=False)
            return
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
        """Return whether there is a step after the shortcut."""
        return any(getattr(self, name) is not None for name in ('p', 'slope', 'c', 'low', 'high'))

    def table(self) -> Tensor:
        """Return all numbers: ``(len(ROWS), C_out)``, float32 on the CPU for buffers of any dtype and device."""
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
        """Compute the steps by PyTorch's operators.

        Args:
            sums (Tensor): S, ``(N, C_out, H', W')``.
            shortcut (Tensor, optional): Shortcut of the same shape.
            extra (Tensor, optional): Term of the same shape, added after m1, of filters with the values
                ``+-scale + offset``.
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
            # not torch.maximum, which may return 0 for -0.0
            y = torch.where(y < step('low'), step('low'), y)
            y = torch.where(y > step('high'), step('high'), y)
        return y


def sign_changes(outputs: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return how the sign of each channel changes with the sum, or None if one changes more than once.

    All steps of an epilogue are monotone, unless a slope is negative. So the outputs of all possible sums have their
    negative signs either below one sum or above it.

    Args:
        outputs (Tensor): Outputs for rising sums, ``(channels, sums)``.

    Returns:
        tuple[Tensor, Tensor] | None: Whether the sign falls to -1 as the sum rises, ``(channels,)``, bool, and the
        number of sums with the sign -1, ``(channels,)``, int64. -0.0 has the sign -1.
    """
    negative = torch.signbit(outputs)
    changes = negative[:, 1:] != negative[:, :-1]
    if outputs.isnan().any() or (changes.sum(1) > 1).any():
        return None
    return negative[:, -1] & ~negative[:, 0], negative.sum(1)


def can_fold_norm(norm: nn.Module) -> bool:
    """Return whether a layer computes a scale and a shift per channel: PyTorch's batch norm with running statistics.

    One with hooks is not folded, because they would not be called.
    """
    if not isinstance(norm, _BatchNorm) or norm.running_mean is None or has_hooks(norm):
        return False
    return forward_path(norm) in NORM_FORWARDS


def can_fold_activation(activation: nn.Module) -> bool:
    """Return whether :meth:`Epilogue.fold_activation` supports an activation. It does not support one with hooks."""
    known = type(activation) in (nn.PReLU, nn.LeakyReLU, nn.Hardtanh, RPReLU, *RELUS)
    return known and not has_hooks(activation)
