"""Binary layers in standard ONNX operators.

A sign is that of :func:`surge_mm.ops.sign`, ``Where(x + 1 / x < 0, -1, 1)``: +1 for 0 and -1 for -0.0. Signs of
weights are int8 constants, which ``Cast`` converts to float. Sums of signs are exact and scaled afterwards, as
everywhere in this package. A ``Round`` between the two leaves them unchanged and keeps runtimes from merging the scale
into the weights, which would make sums of 0 inexact and their signs random.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from surge_mm.deploy.packing.binary_weights import geometry_of, parts_of
from surge_mm.layers import BinaryLayer, SurgeLinear
from surge_mm.ops import LinearMap, sign
from surge_mm.ops.binarizers.activation import SignForm
from surge_mm.utils.errors import UsageError
from surge_mm.utils.modules import replace_modules


class ExportLayer(nn.Module):
    """A binary layer in standard ONNX operators. Binary weights are stored as int8.

    Args:
        layer (BinaryLayer): The layer.
        signed (list[Tensor]): Each call appends the tensor whose signs it takes, of the shape of its input.
    """

    weight: Tensor
    scale: Tensor | None
    shift: Tensor | None
    offset: Tensor | None
    bias: Tensor | None

    def __init__(self, layer: BinaryLayer, signed: list[Tensor]) -> None:
        super().__init__()
        self.signed = signed
        convolution, self.input_padding = geometry_of(layer)
        self.map = LinearMap() if isinstance(layer, SurgeLinear) else convolution
        self.pad_value = float(getattr(layer, 'pad_value', 0))
        self.pad_mode = str(getattr(layer, 'padding_mode', 'zeros'))
        weight, scale, offset, shift, bias = parts_of(layer)
        self.register_buffer('weight', weight)
        self.register_buffer('shift', None if shift is None else shift.detach())
        numbers = {'scale': scale, 'offset': offset, 'bias': bias}
        for name, values in numbers.items():
            values = None if values is None else self.map.per_filter(values.detach())
            self.register_buffer(name, values)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the layer.

        Args:
            x (Tensor): ``(N, C_in, H, W)`` of a convolution, ``(..., C_in)`` of a linear layer.
        """
        if self.shift is not None:
            x = x + self.shift
        self.signed.append(x)
        q_x = sign(x)
        if any(self.input_padding):
            q_x = F.pad(q_x, self.input_padding, mode=self.pad_mode)
        weight = self.weight.to(torch.float32)
        y = self.map.forward(q_x, weight, None, self.pad_value)
        if self.scale is not None:
            y = torch.round(y) * self.scale
        if self.offset is not None:
            y = y + torch.round(self.map.window_sums(q_x, weight, self.pad_value)) * self.offset
        return y if self.bias is None else y + self.bias


def exported(model: nn.Module, signed: list[Tensor]) -> nn.Module:
    """Return a copy of a model with export layers in place of its binary layers; shared layers stay shared.

    Args:
        model (nn.Module): The model.
        signed (list[Tensor]): As for :class:`ExportLayer`.

    Raises:
        UsageError: if the activation of a layer is not the sign.
    """
    model = copy.deepcopy(model)
    layers: dict[nn.Module, nn.Module] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, BinaryLayer):
            if layer.activation.sign_form(None) != SignForm():
                raise UsageError(f'{name}: its activation {layer.activation} is not the sign')
            layers[layer] = ExportLayer(layer, signed)
    return replace_modules(model, layers)
