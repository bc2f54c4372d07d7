"""Activation binarizer as a module, for the matrix products of attention."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from surge_mm.layers.learned_activation import LearnedActivation
from surge_mm.ops import ActivationPath
from surge_mm.ops.binarizers.elastic import used_scale
from surge_mm.ops.surrogate import shifted_input
from surge_mm.utils.argument_checks import Positive, checked


class BinaryActivation(LearnedActivation):
    """Binarize a tensor by an activation binarizer, with its surrogate gradient: ``Q_x(x)``.

    Args:
        activation (dict): Activation binarizer, as for :class:`surge_mm.SurgeLinear`.
        features (int): Size of the last axis, for binarizers with a learned shift. Defaults to 1.

    Shape: ``(..., features) -> (..., features)``.
    """

    @checked
    def __init__(self, activation: dict[str, Any], features: Positive = 1) -> None:
        super().__init__()
        self._init_activation(activation, (features,))
        self._reset_activation()

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.activation_scale is not None and not self._scale_is_checked:
            self._start_scale(x)
        return ActivationPath.apply(
            x, self.activation_shift, self.activation_scale, self.activation
        )

    def whole_values(self, x: Tensor) -> Tensor:
        """Return ``Q_x(x) / scale``, whole numbers of the shape of ``x``, without a gradient."""
        shifted = shifted_input(x, self.activation_shift)
        return self.activation.whole_values(shifted, self.activation_scale)

    @property
    def scale(self) -> Tensor | float:
        """The learned scale as it is used; 1 for binarizers without one."""
        alpha = self.activation_scale
        return 1.0 if alpha is None else used_scale(alpha, alpha)

    def extra_repr(self) -> str:
        return f'activation={self.activation}'
