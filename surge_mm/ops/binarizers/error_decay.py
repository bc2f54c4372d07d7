"""The error decay estimator of IR-Net, which activation and weight binarizers share.

Source: Qin et al., IR-Net, arXiv 1909.10788.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def ede_temperature(progress: Tensor, t_min: float, t_max: float) -> Tensor:
    """Return ``t = t_min (t_max / t_min)^progress``: log-linear from ``t_min`` to ``t_max``.

    Args:
        progress (Tensor): Share of the training that is done, 0 to 1, 0-dimensional.
        t_min (float): t at the first step.
        t_max (float): t at the last step.
    """
    return t_min * (t_max / t_min) ** progress


def ede_derivative(x: Tensor, t: Tensor) -> Tensor:
    """Return the error decay estimator ``k t (1 - tanh^2(t x))`` with ``k = max(1 / t, 1)``.

    Args:
        x (Tensor): Any shape; that of the result.
        t (Tensor): Temperature, 0-dimensional.
    """
    k = (1 / t).clamp(min=1)
    return (1 - torch.tanh(t * x).pow_(2)).mul_(k * t)


def check_ede(t_min: float, t_max: float) -> None:
    """Check the temperatures of an error decay estimator.

    Args:
        t_min (float): t at the first step.
        t_max (float): t at the last step.

    Raises:
        ValueError: unless 0 < t_min <= t_max < inf.
    """
    if not 0 < t_min <= t_max < math.inf:
        raise ValueError(
            f't_min={t_min!r} and t_max={t_max!r} must satisfy 0 < t_min <= t_max < inf'
        )
