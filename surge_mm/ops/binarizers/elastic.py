r"""Elastic activation binarizers, whose values have a learned scale alpha, one number per layer.

They are made for Transformers, in which activations are small and those after softmax or ReLU are never negative::

    ElasticSign                      ElasticBinary
     alpha |    _______              alpha |       _______
         0 |                             0 |______|
    -alpha |___|                             0  alpha/2

With ``u = x / alpha``, Q_x(x) is alpha times a whole number q(u). The gradients are those of learned step sizes: dQ/dx
is 1 in the window where q follows u, else 0, and dQ/dalpha is the derivative of alpha q(x / alpha) with dq/du = dQ/dx.
The gradient of alpha is divided by ``sqrt(n Q)``, n elements of the input and Q the largest q, so that alpha moves by
steps that suit its size.

Comparisons are made in place, in the dtype of x: those to bool take 5 times as long on a CPU (PyTorch 2.12).

alpha starts from the first training batch. It is used as ``max(alpha, 1e-5)``, with a gradient below this bound too.

Source: Liu et al., BiT, arXiv 2205.13016; Esser et al., Learned Step Size Quantization, arXiv 1902.08153.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor

from surge_mm.ops.binarizers.activation import ActivationBinarizer, SignForm
from surge_mm.ops.signs import sign
from surge_mm.utils.argument_checks import checked

SMALLEST = 1e-5
"""Least scale that is used."""


class Elastic:
    """Mixin of the elastic binarizers, of which four values, for the first of two training steps, are 2 bits.

    Attributes:
        bits (int): 1 or 2. Layers with 2 bits cannot be packed.
        spread (float): alpha starts at ``spread mean|x| / sqrt(Q)``.
        low (int): Least q.
        high (int): Largest q, Q.
    """

    learned_scale = True
    spread: ClassVar[float]
    surrogate_window: str | None
    bits: int
    low: int
    high: int

    @abstractmethod
    def levels(self, u: Tensor) -> Tensor:
        """Return q(u), of the shape of ``u``."""

    def __call__(self, x: Tensor) -> Tensor:
        """Return Q_x(x) for ``alpha = 1``."""
        return self.levels(x)

    def values(self, x: Tensor, alpha: Tensor | None) -> Tensor:
        """Return ``alpha q(x / alpha)``, of the shape of ``x``.

        Args:
            x (Tensor): Input of Q_x, any shape.
            alpha (Tensor, optional): Learned scale, 0-dimensional. None for 1.
        """
        return used_scale(x, alpha) * self.whole_values(x, alpha)

    def whole_values(self, x: Tensor, alpha: Tensor | None) -> Tensor:
        """Return ``q(x / alpha)``, whole numbers of the shape and dtype of ``x``.

        Args:
            x (Tensor): Input of Q_x, any shape.
            alpha (Tensor, optional): Learned scale, 0-dimensional. None for 1.
        """
        return self.levels(x / used_scale(x, alpha))

    def derivative(self, x: Tensor) -> Tensor:
        """Return ``1{low <= u <= high}``, of the shape of ``x``, which is u."""
        return x.clamp(self.low, self.high).eq_(x)

    def radius(self, x: Tensor, alpha: Tensor | None = None) -> Tensor | None:
        """Return alpha, or ``k rms(x)`` for ``window='rms'``.

        Args:
            x (Tensor): Input of Q_x, any shape.
            alpha (Tensor, optional): As for :meth:`values`. Defaults to None.
        """
        if self.surrogate_window is None:
            return used_scale(x, alpha)
        return ActivationBinarizer.radius(self, x)  # type: ignore[arg-type]

    def slope(self, u: Tensor) -> Tensor:
        """Return ``dQ/dalpha = q(u) - u 1{low <= u <= high}``, of the shape of ``u``."""
        return self.levels(u) - u * Elastic.derivative(self, u)

    def scale_gradient(self, x: Tensor, alpha: Tensor, grad_q: Tensor) -> Tensor:
        """Return ``dL/dalpha = sum(dL/dQ dQ/dalpha) / sqrt(n Q)``, 0-dimensional.

        Args:
            x (Tensor): Input of Q_x, any shape.
            alpha (Tensor): Learned scale, 0-dimensional.
            grad_q (Tensor): dL/dQ_x(x), of the shape of ``x``.
        """
        wide = torch.promote_types(x.dtype, torch.float32)  # the sum overflows in float16
        total = (self.slope(x / used_scale(x, alpha)) * grad_q).sum(dtype=wide)
        return (total / max(x.numel() * self.high, 1) ** 0.5).to(alpha.dtype)

    def first_scale(self, mean: Tensor) -> Tensor:
        """Return alpha for the first training batch, ``spread mean|x| / sqrt(Q)``.

        Args:
            mean (Tensor): ``mean|x|`` of the batch, 0-dimensional.
        """
        return (self.spread * mean / self.high**0.5).clamp(min=SMALLEST)


def used_scale(x: Tensor, alpha: Tensor | None) -> Tensor:
    """Return ``max(alpha, 1e-5)`` in the dtype of ``x``.

    Args:
        x (Tensor): Input of Q_x.
        alpha (Tensor, optional): Learned scale, 0-dimensional. None for 1.
    """
    return x.new_ones(()) if alpha is None else alpha.clamp(min=SMALLEST).to(x.dtype)


class ElasticSign(Elastic, ActivationBinarizer):
    """Sign with a learned shift b per feature and a learned scale: ``Q_x(x) = alpha sign(x + b)``.

    With ``z = x + b``::

        dQ/dx = dQ/db = 1{|z| <= alpha}        dL/dalpha = sum(sign(z) dL/dQ) / sqrt(n)

    alpha starts at ``2 mean|z|`` of the first training batch. With ``alpha = 1`` this is the clipped straight-through
    estimator of ``x + b``. With 2 bits, q is round(clip(z / alpha, -2, 1)), and dQ/dalpha that of the module.

    Source: Liu et al., BiT, arXiv 2205.13016.

    Args:
        bits (int): 1, or 2 for training with the values -2 alpha, -alpha, 0 and alpha. Defaults to 1.
    """

    learned_shift = True
    spread = 2.0

    @checked
    def __init__(self, bits: Literal[1, 2] = 1) -> None:
        self.bits = bits
        self.low, self.high = -bits, 1

    def levels(self, u: Tensor) -> Tensor:
        return sign(u) if self.bits == 1 else u.clamp(self.low, self.high).round()

    def whole_values(self, x: Tensor, alpha: Tensor | None) -> Tensor:
        return sign(x) if self.bits == 1 else super().whole_values(x, alpha)

    def slope(self, u: Tensor) -> Tensor:
        return sign(u) if self.bits == 1 else super().slope(u)

    def sign_form(self, alpha: Tensor | None) -> SignForm | None:
        return SignForm(factor=_positive(alpha)) if self.bits == 1 else None


class ElasticBinary(Elastic, ActivationBinarizer):
    """Values 0 and alpha, for attention probabilities and after ReLU: ``Q_x(x) = alpha 1{x >= alpha / 2}``.

    With ``u = x / alpha`` and ``q(u) = 1{u >= 1/2}``::

        dQ/dx = 1{0 <= u <= 1}        dL/dalpha = sum((q(u) - u 1{0 <= u <= 1}) dL/dQ) / sqrt(n)

    alpha starts at ``4 mean|x|`` of the first training batch. In signs, ``Q_x(x) = alpha/2 (sign(x - alpha/2) + 1)``:
    a packed layer computes it from sums of signs and the sum of each row of its weight. With 2 bits, q is
    round(clip(u, 0, 3)), the window is ``0 <= u <= 3``, and alpha starts at ``4 mean|x| / sqrt(3)``.

    Source: Liu et al., BiT, arXiv 2205.13016.

    Args:
        bits (int): 1, or 2 for training with the values 0, alpha, 2 alpha and 3 alpha. Defaults to 1.
    """

    spread = 4.0

    @checked
    def __init__(self, bits: Literal[1, 2] = 1) -> None:
        self.bits = bits
        self.low, self.high = 0, 2**bits - 1

    def levels(self, u: Tensor) -> Tensor:
        if self.bits == 1:
            return (-u).le_(-0.5)
        return u.clamp(self.low, self.high).round()

    def whole_values(self, x: Tensor, alpha: Tensor | None) -> Tensor:
        if self.bits == 1:  # the comparison of sign_form, which the division would round
            half = used_scale(x, alpha) / 2
            return torch.minimum(x, half).eq_(half)
        return super().whole_values(x, alpha)

    def sign_form(self, alpha: Tensor | None) -> SignForm | None:
        if self.bits != 1:
            return None
        half = _positive(alpha) / 2
        return SignForm(factor=half, threshold=half, level=1)


def _positive(alpha: Tensor | None) -> Tensor:
    return torch.ones(()) if alpha is None else alpha.clamp(min=SMALLEST)


class Step(ActivationBinarizer):
    """Values 0 and 1, for the scores of BiBERT's attention: ``Q_x(x) = 1{x > 0}``, ``dQ/dx = 1{|x| <= 1}``.

    Layers with it cannot be packed.

    Source: Qin et al., BiBERT, arXiv 2203.06390.
    """

    def __call__(self, x: Tensor) -> Tensor:
        return (-x).lt_(0)

    def derivative(self, x: Tensor) -> Tensor:
        return x.abs().le_(1)
