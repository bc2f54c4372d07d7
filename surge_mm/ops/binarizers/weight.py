r"""Weight binarizers: from latent weights :math:`W_b` to the binary weights of the forward pass.

A weight has the shape ``(C_out, ...)``: ``(C_out, C_in / groups, kH, kW)`` for a convolution, ``(C_out, C_in)`` for a
linear layer. "Per filter" means per index of the first axis. Each class defines ``Q_W``, by its two values per filter,
and the gradient that replaces its derivative. Both depend on ``W_b`` alone, so nothing is saved between them.

A binarizer of your own is a class with ``two_values`` and ``gradient``, in a module of yours; docs/own_methods.md has
an example. For weights of more than two values, which cannot be packed, define ``__call__`` in place of ``two_values``.
CONTRIBUTING.md lists the steps for this package.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from surge_mm.ops.registered import Registered


class TwoValues(NamedTuple):
    """The two values of each filter: ``Q_W = alpha sign(z) + offset``.

    Attributes:
        z (Tensor): Of the shape of the weight; only its sign bits matter.
        alpha (Tensor): Number of at least 0 per filter, ``(C_out, 1, ...)``, or ``()`` for all filters.
        offset (Tensor, optional): Number per filter, shaped as ``alpha``; None for 0.
    """

    z: Tensor
    alpha: Tensor
    offset: Tensor | None = None

    def with_gain(self, gain: Tensor | None) -> TwoValues:
        """Return ``gain Q_W``.

        Args:
            gain (Tensor, optional): Number per filter, ``(C_out, 1, ...)``, of any sign; None for 1.
        """
        if gain is None:
            return self
        offset = None if self.offset is None else self.offset * gain
        return TwoValues(self.z, self.alpha * gain, offset)


class WeightBinarizer(Registered):
    """Base class of the weight binarizers.

    Attributes:
        learned_gain (bool): Whether the layer multiplies each filter by a learned number: ``gain Q_W(w)``.
        numbers_per_filter (int): Real numbers that a filter of a trained network needs beside its signs, without the
            learned gain.
        min_filter_size (int): Least number of weights in a filter.
        per_filter (bool): Whether values and gradient of a filter depend on the weights of that filter alone. An
            embedding then binarizes the rows of its batch instead of the whole table.
    """

    family = 'weight'
    learned_gain: ClassVar[bool] = False
    numbers_per_filter: ClassVar[int] = 1
    min_filter_size: ClassVar[int] = 1
    per_filter: ClassVar[bool] = False

    def check(self, shape: tuple[int, ...]) -> None:
        """Check that this binarizer is defined for a weight of ``shape``.

        Args:
            shape (tuple[int, ...]): ``(C_out, ...)``.

        Raises:
            ValueError: if the filters are too small.
        """
        size = math.prod(shape[1:])
        if size < self.min_filter_size:
            raise ValueError(
                f'weight={self!r} takes the standard deviation of each filter and needs at least '
                f'{self.min_filter_size} weights in it; those of shape {tuple(shape)} have {size}. Take another '
                "binarizer for this layer, such as dict(type='ScaledSign')"
            )

    def two_values(self, w: Tensor) -> TwoValues | None:
        """Return the two values of each filter; None where filters have more than two values.

        Args:
            w (Tensor): Latent weight, ``(C_out, ...)``.
        """
        return None

    def __call__(self, w: Tensor) -> Tensor:
        """Return Q_W(w), of the shape and dtype of ``w``."""
        two = self.two_values(w)
        if two is None:
            raise TypeError(
                f'{type(self).__name__} must define two_values, or __call__ for weights of more than two values'
            )
        q_w = torch.copysign(two.alpha, two.z)
        return q_w if two.offset is None else q_w + two.offset

    @abstractmethod
    def gradient(self, w: Tensor, grad_q: Tensor) -> Tensor:
        """Return dL/dw.

        Args:
            w (Tensor): Latent weight, ``(C_out, ...)``.
            grad_q (Tensor): dL/dQ_W(w), of the shape of ``w``.
        """


def mean_per_filter(w: Tensor) -> Tensor:
    """Return the mean of each filter, of shape ``(C_out, 1, ...)``."""
    return w.mean(dim=tuple(range(1, w.dim())), keepdim=True)


def magnitude(w: Tensor) -> Tensor:
    """Return ``alpha = mean(|w|)`` per filter, of shape ``(C_out, 1, ...)``."""
    return mean_per_filter(w.abs())


class Real(WeightBinarizer):
    """``Q_W = w``: real weights, for the first of two training stages."""

    def __call__(self, w: Tensor) -> Tensor:
        return w

    def gradient(self, w: Tensor, grad_q: Tensor) -> Tensor:
        return grad_q


class Sign(WeightBinarizer):
    """``Q_W = sign(w)``, ``dL/dw = dL/dQ_W 1{|w| <= 1}``.

    Source: Courbariaux et al., Binarized Neural Networks, arXiv 1602.02830.
    """

    numbers_per_filter = 0

    def two_values(self, w: Tensor) -> TwoValues:
        return TwoValues(w, torch.ones((), dtype=w.dtype, device=w.device))

    def gradient(self, w: Tensor, grad_q: Tensor) -> Tensor:
        return grad_q * w.abs().le_(1)


class ScaledSign(WeightBinarizer):
    """``Q_W = alpha sign(w)`` with ``alpha = mean(|w|)`` per filter; ``dL/dw = dL/dQ_W`` (straight through).

    The scale is that of Rastegari et al., XNOR-Net, arXiv 1603.05279; the gradient leaves it out and does not clip.
    """

    per_filter = True

    def two_values(self, w: Tensor) -> TwoValues:
        return TwoValues(w, magnitude(w))

    def gradient(self, w: Tensor, grad_q: Tensor) -> Tensor:
        return grad_q


class XNOR(ScaledSign):
    """``Q_W = alpha sign(w)``, ``dL/dw = (1/n + alpha 1{|w| <= 1}) dL/dQ_W`` elementwise, n weights in a filter.

    Source: Rastegari et al., XNOR-Net, arXiv 1603.05279, as printed there.
    """

    def gradient(self, w: Tensor, grad_q: Tensor) -> Tensor:
        n = w[0].numel()
        return grad_q * (1 / n + magnitude(w) * w.abs().le_(1))


class ReAct(ScaledSign):
    """``Q_W = alpha sign(w)``, ``dL/dw = dL/dQ_W 1{|w| <= 1}``.

    Source: the official code of Bi-Real Net (arXiv 1808.00278) and of ReActNet (arXiv 2003.03488).
    """

    def gradient(self, w: Tensor, grad_q: Tensor) -> Tensor:
        return grad_q * w.abs().le_(1)


class BiBERT(ReAct):
    """``Q_W = alpha sign(w - mean(w))`` with ``alpha = mean(|w|)``, both per filter.

    ``dL/dw = dL/dQ_W 1{|w| <= 1}``; the gradient leaves out alpha and the mean.
    Source: Qin et al., BiBERT, arXiv 2203.06390.
    """

    def two_values(self, w: Tensor) -> TwoValues:
        return TwoValues(w - mean_per_filter(w), magnitude(w))


class BiT(WeightBinarizer):
    """``Q_W = alpha sign(w - mean(w))`` with ``alpha = mean(|w|)``, both over the whole layer.

    ``dL/dw = dL/dQ_W`` (straight through).
    Source: Liu et al., BiT, arXiv 2205.13016.
    """

    def two_values(self, w: Tensor) -> TwoValues:
        return TwoValues(w - w.mean(), w.abs().mean())

    def gradient(self, w: Tensor, grad_q: Tensor) -> Tensor:
        return grad_q
