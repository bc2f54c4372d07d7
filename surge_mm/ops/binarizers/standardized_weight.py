"""Weight binarizers of the standardized weight: Libra of IR-Net, ReCU and AdaBin."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from surge_mm.ops.binarizers.error_decay import ErrorDecay
from surge_mm.ops.binarizers.scheduled import Scheduled
from surge_mm.ops.binarizers.weight import TwoValues, WeightBinarizer, magnitude, mean_per_filter
from surge_mm.ops.signs import sign
from surge_mm.utils.argument_checks import checked


def standardize(w: Tensor, correction: int = 1, eps: float = 0) -> tuple[Tensor, Tensor]:
    """Return ``z = (w - mean) / std`` per filter, and ``std = sqrt(var + eps)``.

    A filter whose weights are all equal has z = 0.

    Args:
        w (Tensor): Weight, ``(C_out, ...)``.
        correction (int): As for :func:`torch.var`. Defaults to 1.
        eps (float): Added to the variance. Defaults to 0.
    """
    centered = w - mean_per_filter(w)
    count = w[0].numel() - correction
    variance = centered.square().sum(dim=tuple(range(1, w.dim())), keepdim=True) / count
    std = (variance + eps).sqrt()
    return centered / _divisor(std), std


def standardize_backward(z: Tensor, std: Tensor, grad_z: Tensor, correction: int = 1) -> Tensor:
    """Return dL/dw of ``z = standardize(w)``.

    ``dL/dw = (h - mean(h)) / std`` with ``h = dL/dz - z sum(z dL/dz) / (n - correction)``. Where std is 0, the
    divisor is 1.

    Args:
        z (Tensor): Standardized weight, ``(C_out, ...)``.
        std (Tensor): ``(C_out, 1, ...)``.
        grad_z (Tensor): dL/dz, of the shape of ``z``.
        correction (int): That of :func:`standardize`. Defaults to 1.
    """
    along = (z * grad_z).sum(dim=tuple(range(1, z.dim())), keepdim=True)
    h = grad_z - z * along / (z[0].numel() - correction)
    return (h - mean_per_filter(h)) / _divisor(std)


def _divisor(std: Tensor) -> Tensor:
    return torch.where(std > 0, std, 1)


class Libra(ErrorDecay, WeightBinarizer):
    """Libra parameter binarization: ``Q_W = 2^s sign(z)`` with z = w standardized and ``s = round(log2 mean(|z|))``.

    Ties are rounded to the even number. Filters of two weights have ``z = +-1/sqrt(2)``, so that s is always 0 there.
    A filter whose weights are all equal has Q_W = 0 and no gradient.

    ``dL/dz = 2^s k t (1 - tanh^2(t z)) dL/dQ_W`` with t as :class:`surge_mm.ops.EDE` has it, then through the
    standardization to w.
    Source: Qin et al., IR-Net, arXiv 1909.10788.

    Args:
        t_min (float): t at the first step. Defaults to 1e-2.
        t_max (float): t at the last step. Defaults to 10.
    """

    min_filter_size = 2

    def two_values(self, w: Tensor) -> TwoValues:
        z, _ = standardize(w)
        return TwoValues(z, self._scale(z))

    def gradient(self, w: Tensor, grad_q: Tensor) -> Tensor:
        z, std = standardize(w)
        return standardize_backward(z, std, grad_q * self._scale(z) * self.decayed(z))

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


class AdaBin(ErrorDecay, WeightBinarizer):
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

    def two_values(self, w: Tensor) -> TwoValues:
        mean = mean_per_filter(w)
        _, alpha = standardize(w, correction=0)
        return TwoValues(w - mean, alpha, mean)

    def gradient(self, w: Tensor, grad_q: Tensor) -> Tensor:
        z, alpha = standardize(w, correction=0)
        n = w[0].numel()
        through_z = standardize_backward(z, alpha, grad_q * alpha * self.decayed(z), correction=0)
        grad_alpha = (grad_q * sign(z)).sum(dim=tuple(range(1, w.dim())), keepdim=True)
        return through_z + grad_alpha * z / n + mean_per_filter(grad_q)
