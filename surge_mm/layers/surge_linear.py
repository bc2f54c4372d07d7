"""The binary linear layer with SURGE's gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from surge_mm.layers.binary_layer import DEFAULT_COMPENSATOR, BinaryLayer
from surge_mm.ops import LinearMap
from surge_mm.registry import MODELS
from surge_mm.utils.argument_checks import Positive, checked


@MODELS.register_module()
class SurgeLinear(BinaryLayer, nn.Linear):
    """1-bit linear layer ``Q_x(x) Q_W(W_b)^T + bias``, trained by SURGE (arXiv 2605.10989).

    Args:
        in_features, out_features, bias, device, dtype: As for :class:`torch.nn.Linear`.
        activation, weight, compensator: As for :class:`surge_mm.SurgeConv2d`.

    Shape: ``(..., C_in) -> (..., C_out)``.

    Raises:
        ValueError: as :class:`surge_mm.SurgeConv2d`.
    """

    @checked
    def __init__(
        self,
        in_features: Positive,
        out_features: Positive,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        activation: dict[str, Any] | None = None,
        weight: dict[str, Any] | None = None,
        compensator: dict[str, Any] | None = DEFAULT_COMPENSATOR,
    ) -> None:
        super().__init__(in_features, out_features, bias, device, dtype)
        self._init_dual_path(activation, weight, compensator, (self.in_features,))

    @classmethod
    def from_float(cls, layer: nn.Linear, **settings: Any) -> SurgeLinear:
        """The binary layer that trains on with the parameters of ``layer``; ``settings`` as the constructor's."""
        with torch.random.fork_rng(
            devices=[]
        ):  # the draw is thrown away: the seed stays what it is
            binary = cls(layer.in_features, layer.out_features, layer.bias is not None, **settings)
        return binary._take(layer)

    def to_float(self) -> nn.Linear:
        """The real layer with the parameters of this one; auxiliary and learned ones are left behind."""
        layer = nn.Linear(self.in_features, self.out_features, self.bias is not None, device='meta')
        return self._give(layer)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 1:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        return self._dual_path(LinearMap(), x)
