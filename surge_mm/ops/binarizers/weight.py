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

from surge_mm.ops.binarizers.base import Binarizer, Scheduled
from surge_mm.ops.binarizers.error_decay import check_ede, ede_derivative, ede_temperature
from surge_mm.ops.signs import sign
from surge_mm.utils.argument_checks import checked


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


class WeightBinarizer(Binarizer):
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


def standardize(w: Tensor, correction: int = 1, eps: float = 0) -> tuple[Tensor, Tensor]:
    """Return ``z = (w - mean) / std`` per filter, and ``std = sqrt(var + eps)``.

    Args:
        w (Tensor): Weight, ``(C_out, ...)``.
        correction (int): As for :func:`torch.var`. Defaults to 1.
        eps (float): Added to the variance. Defaults to 0.
    """
    centered = w - mean_per_filter(w)
    count = w[0].numel() - correction
    variance = centered.square().sum(dim=tuple(range(1, w.dim())), keepdim=True) / count
    std = (variance + eps).sqrt()
    return centered / std, std


def standardize_backward(z: Tensor, std: Tensor, grad_z: Tensor, correction: int = 1) -> Tensor:
    """Return dL/dw of ``z = standardize(w)``.

    ``dL/dw = (h - mean(h)) / std`` with ``h = dL/dz - z sum(z dL/dz) / (n - correction)``.

    Args:
        z (Tensor): Standardized weight, ``(C_out, ...)``.
        std (Tensor): ``(C_out, 1, ...)``.
        grad_z (Tensor): dL/dz, of the shape of ``z``.
        correction (int): That of :func:`standardize`. Defaults to 1.
    """
    along = (z * grad_z).sum(dim=tuple(range(1, z.dim())), keepdim=True)
    h = grad_z - z * along / (z[0].numel() - correction)
    return (h - mean_per_filter(h)) / std


class Libra(Scheduled, WeightBinarizer):
    """Libra parameter binarization: ``Q_W = 2^s sign(z)`` with z = w standardized and ``s = round(log2 mean(|z|))``.

    Ties are rounded to the even number. Filters of two weights have ``z = +-1/sqrt(2)``, so that s is always 0 there.

    ``dL/dz = 2^s k t (1 - tanh^2(t z)) dL/dQ_W`` with t as :class:`surge_mm.ops.EDE` has it, then through the
    standardization to w.
    Source: Qin et al., IR-Net, arXiv 1909.10788.

    Args:
        t_min (float): t at the first step. Defaults to 1e-2.
        t_max (float): t at the last step. Defaults to 10.
    """

    min_filter_size = 2

    @checked
    def __init__(self, t_min: float = 1e-2, t_max: float = 10.0) -> None:
        check_ede(t_min, t_max)
        self.t_min, self.t_max = t_min, t_max

    def two_values(self, w: Tensor) -> TwoValues:
        z, _ = standardize(w)
        return TwoValues(z, self._scale(z))

    def gradient(self, w: Tensor, grad_q: Tensor) -> Tensor:
        z, std = standardize(w)
        t = ede_temperature(self.progress_tensor, self.t_min, self.t_max)
        return standardize_backward(z, std, grad_q * self._scale(z) * ede_derivative(z, t))

    @staticmethod
    def _scale(z: Tensor) -> Tensor:
        s = magnitude(z).log2()
        if z[0].numel() == 2:
            s = s + 0.5  # -1/2 for all weights, a tie that rounding errors would decide
        return s.round().exp2()


class ReCU(Scheduled, WeightBinarizer):
    """Rectified clamp unit: ``Q_W = gain sign(z)``, z = w centered, divided by ``std / (2 sqrt 2)``, clamped to +-Q.

    ``Q = -mean(|z|) ln(2 - 2 tau)`` over the whole layer, without a gradient of its own; ``dL/dz = gain dL/dQ_W``
    within the clamp and 0 outside, then through the standardization to w. The gain of each filter is learned.
    tau grows from ``tau_min`` to ``tau_max`` in proportion to ``e^progress - 1``.
    Source: Xu et al., ReCU, arXiv 2103.12369, with the schedule and the learned gain of its official code.

    Args:
        tau_min (float): tau at the first step. Defaults to 0.85.
        tau_max (float): tau at the last step. Defaults to 0.99.
    """

    learned_gain = True
    numbers_per_filter = 0
    min_filter_size = 2

    @checked
    def __init__(self, tau_min: float = 0.85, tau_max: float = 0.99) -> None:
        if not 0.5 < tau_min <= tau_max < 1:
            raise ValueError(
                f'tau_min={tau_min!r} and tau_max={tau_max!r} must satisfy 0.5 < tau_min <= tau_max < 1'
            )
        self.tau_min, self.tau_max = tau_min, tau_max

    @property
    def tau(self) -> Tensor:
        grown = self.progress_tensor.expm1() / math.expm1(1)
        return self.tau_min + (self.tau_max - self.tau_min) * grown

    def two_values(self, w: Tensor) -> TwoValues:
        centered = w - mean_per_filter(w)  # the division and the clamp change no sign
        return TwoValues(centered, torch.ones((), dtype=w.dtype, device=w.device))

    def gradient(self, w: Tensor, grad_q: Tensor) -> Tensor:
        z, std = standardize(w, eps=1e-5)
        stretch = 2 * math.sqrt(2)
        limit = -(stretch * z).abs().mean() * (2 - 2 * self.tau).log()
        inside = (stretch * z).abs() <= limit
        return standardize_backward(z, std, grad_q * inside * stretch)


class AdaBin(Scheduled, WeightBinarizer):
    """Two values per filter that fit the weights: ``Q_W = alpha sign(z) + mean``, with alpha = std.

    Here ``z = (w - mean) / alpha``.

    The gradient is that of the whole formula, through alpha and the mean too, with the surrogate
    ``dsign(z)/dz = k t (1 - tanh^2(t z))`` of :class:`surge_mm.ops.EDE`.
    Source: Tu et al., AdaBin, arXiv 2208.08084, and its official code for the surrogate.

    Args:
        t_min (float): t at the first step. Defaults to 1e-2.
        t_max (float): t at the last step. Defaults to 10.
    """

    numbers_per_filter = 2
    min_filter_size = 2

    @checked
    def __init__(self, t_min: float = 1e-2, t_max: float = 10.0) -> None:
        check_ede(t_min, t_max)
        self.t_min, self.t_max = t_min, t_max

    def two_values(self, w: Tensor) -> TwoValues:
        mean = mean_per_filter(w)
        _, alpha = standardize(w, correction=0)
        return TwoValues(w - mean, alpha, mean)

    def gradient(self, w: Tensor, grad_q: Tensor) -> Tensor:
        z, alpha = standardize(w, correction=0)
        n = w[0].numel()
        t = ede_temperature(self.progress_tensor, self.t_min, self.t_max)
        through_z = standardize_backward(
            z, alpha, grad_q * alpha * ede_derivative(z, t), correction=0
        )
        grad_alpha = (grad_q * sign(z)).sum(dim=tuple(range(1, w.dim())), keepdim=True)
        return through_z + grad_alpha * z / n + mean_per_filter(grad_q)
