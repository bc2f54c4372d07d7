r"""Weight binarisers: from latent real weights :math:`W_b` to the binary ones that the layer computes with.

A weight has the shape ``(C_out, ...)``: ``(C_out, C_in / groups, kH, kW)`` for a convolution, ``(C_out, C_in)`` for a
linear layer. What is said per filter is said per index of the first axis. Each class has two functions, ``Q_W`` and the
gradient that stands in for its derivative; both are made of ``W_b`` alone, so nothing need be kept between them.
"""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from .activations import sign
from .binarizer import Binarizer


class WeightBinarizer(Binarizer):
    """Base of the weight binarisers."""

    family = 'weight'

    @abstractmethod
    def __call__(self, w: Tensor) -> Tensor:
        """Q_W(w), of the shape and dtype of ``w``."""

    @abstractmethod
    def gradient(self, w: Tensor, grad_q: Tensor) -> Tensor:
        """dL/dw from ``grad_q`` = dL/dQ_W(w); all of one shape."""


class Sign(WeightBinarizer):
    """``Q_W = sign(w)``, ``dL/dw = dL/dQ_W 1{|w| <= 1}``.

    Source: Courbariaux et al., Binarized Neural Networks, arXiv 1602.02830.
    """

    def __call__(self, w: Tensor) -> Tensor:
        return sign(w)

    def gradient(self, w: Tensor, grad_q: Tensor) -> Tensor:
        return grad_q * (w.abs() <= 1)


class ScaledSign(WeightBinarizer):
    """``Q_W = alpha sign(w)`` with ``alpha = mean(|w|)`` per filter; ``dL/dw = dL/dQ_W`` (straight through).

    The scale is that of Rastegari et al., XNOR-Net, arXiv 1603.05279; the gradient leaves it out and does not clip.
    """

    def __call__(self, w: Tensor) -> Tensor:
        alpha = w.abs().mean(dim=tuple(range(1, w.dim())), keepdim=True)
        return sign(w) * alpha

    def gradient(self, w: Tensor, grad_q: Tensor) -> Tensor:
        return grad_q
