"""The error decay estimator of IR-Net, which activation and weight binarizers share."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from surge_mm.ops.binarizers.scheduled import Scheduled
from surge_mm.utils.argument_checks import checked


class ErrorDecay(Scheduled):
    """Mixin of the binarizers with the error decay estimator: ``dsign(z)/dz = k t (1 - tanh^2(t z))``.

    ``k = max(1 / t, 1)``, and t grows log-linearly, ``t = t_min (t_max / t_min)^progress``.
    Source: Qin et al., IR-Net, arXiv 1909.10788 (t_min = 1e-2 in its text, 1e-3 in its code).

    Args:
        t_min (float): t at the first step. Defaults to 1e-2.
        t_max (float): t at the last step. Defaults to 10.

    Raises:
        ValueError: unless 0 < t_min <= t_max < inf.
    """

    @checked
    def __init__(self, t_min: float = 1e-2, t_max: float = 10.0) -> None:
        if not 0 < t_min <= t_max < math.inf:
            raise ValueError(
                f't_min={t_min!r} and t_max={t_max!r} must satisfy 0 < t_min <= t_max < inf'
            )
        self.t_min, self.t_max = t_min, t_max

    def decayed(self, z: Tensor) -> Tensor:
        """Return ``dsign(z)/dz`` at the present progress.

        Args:
            z (Tensor): Any shape; that of the result.
        """
        t = self.t_min * (self.t_max / self.t_min) ** self.progress_tensor
        k = (1 / t).clamp(min=1)
        return (1 - torch.tanh(t * z).pow_(2)).mul_(k * t)
