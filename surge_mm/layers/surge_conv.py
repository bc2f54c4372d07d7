"""The binary convolution with SURGE's gradient."""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from surge_mm.layers.binary_layer import DEFAULT_COMPENSATOR, BinaryLayer
from surge_mm.ops import Convolution
from surge_mm.registry import MODELS
from surge_mm.utils.argument_checks import Count, Positive, checked

Size = Positive | tuple[Positive, Positive]


@MODELS.register_module()
class SurgeConv2d(BinaryLayer, nn.Conv2d):
    """1-bit convolution ``Q_W(W_b) * Q_x(x) + bias``, trained by SURGE (arXiv 2605.10989).

    Build it by name in either host: ``conv_cfg=dict(type='surge_mm.SurgeConv2d', ...)``.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype:
            As for :class:`torch.nn.Conv2d`.
        activation (dict, optional): Q_x and its surrogate derivative. Defaults to ``dict(type='ApproxSign')``.
        weight (dict, optional): Q_W and its gradient. Defaults to ``dict(type='ScaledSign')``.
        compensator (dict, optional): ``dict(eta=...)`` for AGS (with ``preserve_norm=True`` for its norm-preserving
            form), ``dict(scale=...)`` for a fixed lambda, None for the plain binary layer (STE). Either may say
            ``init='copy'`` or ``'kaiming'``: how ``aux_weight`` starts; or ``tied=True``: W_a is W_b itself, without
            an ``aux_weight``, and a step has 4 convolutions, not 5. Defaults to ``dict(eta=0.1)``.
        pad_value (int): What stands round the binary input: 0, 1 or -1. Defaults to 0. The branch's real input has
            zeros there in any case.

    Shape: ``(N, C_in, H, W) -> (N, C_out, H', W')``, as :class:`torch.nn.Conv2d`.

    Raises:
        ValueError: an unknown binariser, a compensator that contradicts itself, a negative scale or eta, another
            ``pad_value``, filters too small for the weight binariser.
    """

    @checked
    def __init__(
        self,
        in_channels: Positive,
        out_channels: Positive,
        kernel_size: Size,
        stride: Size = 1,
        padding: Count | tuple[Count, Count] | Literal['valid', 'same'] = 0,
        dilation: Size = 1,
        groups: Positive = 1,
        bias: bool = True,
        padding_mode: Literal['zeros', 'reflect', 'replicate', 'circular'] = 'zeros',
        device: Any = None,
        dtype: Any = None,
        *,
        activation: dict[str, Any] | None = None,
        weight: dict[str, Any] | None = None,
        compensator: dict[str, Any] | None = DEFAULT_COMPENSATOR,
        pad_value: Literal[0, 1, -1] = 0,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )
        if pad_value != 0 and self.padding_mode != 'zeros':
            raise ValueError(
                f"pad_value={pad_value} and padding_mode='{self.padding_mode}' both say what stands round the input; "
                'drop one'
            )
        self.pad_value: int = pad_value
        shift_shape = (self.in_channels, 1, 1)
        self._init_dual_path(activation, weight, compensator, shift_shape)

    @classmethod
    def from_float(cls, layer: nn.Conv2d, **settings: Any) -> SurgeConv2d:
        """The binary layer that trains on with the parameters of ``layer``; ``settings`` as the constructor's."""
        with torch.random.fork_rng(
            devices=[]
        ):  # the draw is thrown away: the seed stays what it is
            binary = cls(
                layer.in_channels,
                layer.out_channels,
                layer.kernel_size,  # type: ignore[arg-type]
                layer.stride,  # type: ignore[arg-type]
                layer.padding,  # type: ignore[arg-type]
                layer.dilation,  # type: ignore[arg-type]
                layer.groups,
                layer.bias is not None,
                layer.padding_mode,
                **settings,
            )
        return binary._take(layer)

    def to_float(self) -> nn.Conv2d:
        """The real convolution with the parameters of this layer; auxiliary and learned ones are left behind."""
        layer = nn.Conv2d(
            self.in_channels,
            self.out_channels,
            self.kernel_size,  # type: ignore[arg-type]
            self.stride,  # type: ignore[arg-type]
            self.padding,  # type: ignore[arg-type]
            self.dilation,  # type: ignore[arg-type]
            self.groups,
            self.bias is not None,
            self.padding_mode,
            device='meta',
        )
        return self._give(layer)

    @property
    def convolution(self) -> Convolution:
        """The geometry of the layer; a ``padding_mode`` other than 'zeros' pads before it."""
        left, right, top, bottom = self._reversed_padding_repeated_twice
        return Convolution(
            cast('tuple[int, int]', self.stride),
            (left, right, top, bottom) if self.padding_mode == 'zeros' else (0, 0, 0, 0),
            cast('tuple[int, int]', self.dilation),
            self.groups,
        )

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 3:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        if self.padding_mode != 'zeros':
            x = F.pad(x, self._reversed_padding_repeated_twice, mode=self.padding_mode)
        return self._dual_path(self.convolution, x, self.pad_value)

    def _conv_forward(self, *args: Any, **kwargs: Any) -> Tensor:
        raise RuntimeError(
            'SurgeConv2d: something computes with the latent weight as if this were a real convolution. In ConvModule '
            'set efficient_conv_bn_eval=False'
        )

    def extra_repr(self) -> str:
        return f'{super().extra_repr()}, pad_value={self.pad_value}'
