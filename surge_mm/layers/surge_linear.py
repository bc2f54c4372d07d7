"""The binary linear layer with SURGE's gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from surge_mm.layers.binary_layer import (
    DEFAULT_ACTIVATION,
    DEFAULT_COMPENSATOR,
    DEFAULT_WEIGHT,
    BinaryLayer,
)
from surge_mm.ops import LinearMap
from surge_mm.utils.argument_checks import Positive, checked


class SurgeLinear(BinaryLayer, nn.Linear):
    """1-bit linear layer ``Q_x(x) Q_W(W_b)^T + bias``, trained by SURGE (arXiv 2605.10989).

    Args:
        in_features (int): As for :class:`torch.nn.Linear`.
        out_features (int): As for :class:`torch.nn.Linear`.
        bias (bool): As for :class:`torch.nn.Linear`. Defaults to True.
        device (torch.device, optional): As for :class:`torch.nn.Linear`.
        dtype (torch.dtype, optional): As for :class:`torch.nn.Linear`.
        activation (dict): As for :class:`surge_mm.SurgeConv2d`.
        weight (dict): As for :class:`surge_mm.SurgeConv2d`.
        compensator (dict, optional): As for :class:`surge_mm.SurgeConv2d`.

    Shape:
        ``(..., C_in) -> (..., C_out)``.

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
        activation: dict[str, Any] = DEFAULT_ACTIVATION,
        weight: dict[str, Any] = DEFAULT_WEIGHT,
        compensator: dict[str, Any] | None = DEFAULT_COMPENSATOR,
    ) -> None:
        super().__init__(in_features, out_features, bias, device, dtype)
        self._init_dual_path(activation, weight, compensator, (self.in_features,))

    @classmethod
    def from_float(cls, layer: nn.Linear, **settings: Any) -> SurgeLinear:
        """Build the binary layer that continues with the parameters of ``layer``, the same tensors.

        Args:
            layer (nn.Linear): A real linear layer.
            **settings (Any): ``activation``, ``weight`` and ``compensator`` of the constructor.
        """
        with torch.random.fork_rng(devices=[]):  # the draw is discarded, so keep the generator
            binary = cls(layer.in_features, layer.out_features, layer.bias is not None, **settings)
        return binary._take(layer)

    def to_float(self) -> nn.Linear:
        """Return the real linear layer with the weight and bias of this layer, the same tensors."""
        layer = nn.Linear(self.in_features, self.out_features, self.bias is not None, device='meta')
        return self._give(layer)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(x, fx.Proxy):
            return self._node(x)
        if x.dim() == 1:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        return self._dual_path(LinearMap(), x)
