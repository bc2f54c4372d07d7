"""Binary layers in operators that ONNX has.

A sign is ``Where(x >= 0, 1, -1)``: of -0.0 it is +1, where the trained network takes the sign bit and has -1; behind a
batch norm such a number is as good as never met. Signs of weights are int8 constants, which a ``Cast`` makes floats of.
Sums of signs are scaled afterwards, so they are exact, as everywhere in this package; a ``Round`` between, which
changes none, keeps runtimes from moving the scale into the weights: where a sum is 0, the next sign would be left to
chance.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from surge_mm.deploy.binary_weights import is_sign, parts_of, window_of
from surge_mm.layers import BinaryLayer, SurgeLinear
from surge_mm.utils.errors import UsageError


class ExportLayer(nn.Module):
    """A binary layer in operators that ONNX has; of signs, ``weight`` is int8.

    Args:
        layer (BinaryLayer): The layer.
        signed (list[Tensor]): To which each call adds the tensor that it takes the signs of, of its input's shape.
    """

    weight: Tensor
    scale: Tensor | None
    shift: Tensor | None
    offset: Tensor | None
    bias: Tensor | None

    def __init__(self, layer: BinaryLayer, signed: list[Tensor]) -> None:
        super().__init__()
        self.signed = signed
        self.linear = isinstance(layer, SurgeLinear)
        self.window, self.around = window_of(layer)
        self.pad_value = float(getattr(layer, 'pad_value', 0))
        self.mode = str(getattr(layer, 'padding_mode', 'zeros'))
        weight, scale, offset = parts_of(layer)
        self.register_buffer('weight', weight.reshape(self.window.shape(len(weight))))
        numbers = {
            'shift': layer.activation_shift,
            'scale': scale,
            'offset': offset,
            'bias': layer.bias,
        }
        for name, values in numbers.items():
            shape = (-1,) if self.linear and name == 'shift' else (-1, 1, 1)
            self.register_buffer(name, None if values is None else values.detach().reshape(shape))

    def forward(self, x: Tensor) -> Tensor:
        if self.shift is not None:
            x = x + self.shift
        self.signed.append(x)
        q_x = torch.where(x >= 0, 1.0, -1.0)
        if not self.linear:
            return self._convolution(q_x)
        rows = q_x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)
        out = self._convolution(rows).permute(0, 2, 3, 1)
        return out.reshape(*x.shape[:-1], out.shape[-1])

    def _convolution(self, q_x: Tensor) -> Tensor:
        left, right, top, bottom = self.window.padding
        inside = [top, left]
        if any(self.around):
            q_x = F.pad(q_x, self.around, mode=self.mode)
        if self.pad_value != 0 or left != right or top != bottom:
            q_x, inside = F.pad(q_x, self.window.padding, value=self.pad_value), [0, 0]
        stride, dilation, groups = self.window.stride, self.window.dilation, self.window.groups
        weight = self.weight.to(torch.float32)
        y = F.conv2d(q_x, weight, None, stride, inside, dilation, groups)
        if self.scale is not None:
            y = torch.round(y) * self.scale
        if self.offset is not None:
            ones = torch.ones_like(weight[:groups])
            windows = F.conv2d(q_x, ones, None, stride, inside, dilation, groups)
            if groups > 1:
                windows = windows.repeat_interleave(len(weight) // groups, 1)
            y = y + torch.round(windows) * self.offset
        return y if self.bias is None else y + self.bias


def exported(model: nn.Module, signed: list[Tensor]) -> nn.Module:
    """A copy whose binary layers are :class:`ExportLayer`; one that stands in several places is one there too.

    Raises:
        UsageError: the activation of a layer is not the sign.
    """
    model = copy.deepcopy(model)
    if isinstance(model, BinaryLayer):
        return ExportLayer(model, signed)
    made: dict[nn.Module, ExportLayer] = {}
    for name, layer in list(model.named_modules(remove_duplicate=False)):
        if isinstance(layer, BinaryLayer):
            if not is_sign(layer.activation):
                raise UsageError(f'{name}: its activation {layer.activation} is not the sign')
            if layer not in made:
                made[layer] = ExportLayer(layer, signed)
            parent, _, own = name.rpartition('.')
            setattr(model.get_submodule(parent), own, made[layer])
    return model
