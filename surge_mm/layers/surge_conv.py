"""The binary convolution with SURGE's gradient."""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from surge_mm.layers.binary_layer import (
    DEFAULT_ACTIVATION,
    DEFAULT_COMPENSATOR,
    DEFAULT_WEIGHT,
    BinaryLayer,
)
from surge_mm.ops import Convolution
from surge_mm.utils.argument_checks import Count, Positive, checked
from surge_mm.utils.errors import UsageError

Size = Positive | tuple[Positive, Positive]


class SurgeConv2d(BinaryLayer, nn.Conv2d):
    """1-bit convolution ``Q_W(W_b) * Q_x(x) + bias``, trained by SURGE (arXiv 2605.10989).

    Build it by name in either host: ``conv_cfg=dict(type='surge_mm.SurgeConv2d', ...)``.

    Args:
        in_channels (int): As for :class:`torch.nn.Conv2d`.
        out_channels (int): As for :class:`torch.nn.Conv2d`.
        kernel_size (int | tuple[int, int]): As for :class:`torch.nn.Conv2d`.
        stride (int | tuple[int, int]): As for :class:`torch.nn.Conv2d`. Defaults to 1.
        padding (int | tuple[int, int] | str): As for :class:`torch.nn.Conv2d`. Defaults to 0.
        dilation (int | tuple[int, int]): As for :class:`torch.nn.Conv2d`. Defaults to 1.
        groups (int): As for :class:`torch.nn.Conv2d`. Defaults to 1.
        bias (bool): As for :class:`torch.nn.Conv2d`. Defaults to True.
        padding_mode (str): As for :class:`torch.nn.Conv2d`. Defaults to ``'zeros'``.
        device (torch.device, optional): As for :class:`torch.nn.Conv2d`.
        dtype (torch.dtype, optional): As for :class:`torch.nn.Conv2d`.
        activation (dict): Q_x and its surrogate derivative. Defaults to ``dict(type='ApproxSign')``.
        weight (dict): Q_W and its gradient. Defaults to ``dict(type='ScaledSign')``.
        compensator (dict, optional): ``dict(eta=...)`` for AGS (with ``preserve_norm=True`` for its norm-preserving
            form), ``dict(scale=...)`` for a fixed lambda, None for the plain binary layer (STE). Both dicts accept
            ``init='copy'`` or ``'kaiming'``, the start of ``aux_weight``; ``tied=True``, for which W_a is W_b itself
            and there is no ``aux_weight``; or ``frozen=True``, for which ``aux_weight`` stays at random values. A
            training step then has 4 convolutions instead of 5. ``dtype='bfloat16'`` computes the gradient convolutions
            of the branch in bfloat16; all else keeps its dtype. Defaults to ``dict(eta=0.1)``.
        pad_value (int): Padding value of the binarized input: 0, 1 or -1. The branch's real input is always padded with
            zeros. Defaults to 0.

    Shape:
        ``(N, C_in, H, W) -> (N, C_out, H', W')``, as :class:`torch.nn.Conv2d`.

    Raises:
        ValueError: if a binarizer is unknown, a compensator contradicts itself, a scale or eta is negative,
            ``pad_value`` is another number, or the filters are too small for the weight binarizer.

    Example:
        >>> conv = SurgeConv2d(64, 128, 3, padding=1, bias=False)
        >>> conv(torch.randn(1, 64, 32, 32)).shape
        torch.Size([1, 128, 32, 32])
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
        activation: dict[str, Any] = DEFAULT_ACTIVATION,
        weight: dict[str, Any] = DEFAULT_WEIGHT,
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
                f"pad_value={pad_value} and padding_mode='{self.padding_mode}' both define the padding of the input; "
                'drop one'
            )
        self.pad_value: int = pad_value
        shift_shape = (self.in_channels, 1, 1)
        self._init_dual_path(activation, weight, compensator, shift_shape)
        if self.activation.learned_scale:
            raise UsageError(
                f'SurgeConv2d: activation={activation!r} has a learned scale, which is for linear layers: its values '
                "do not fit the padding of a convolution. Take another binarizer, such as dict(type='RSign')"
            )

    @classmethod
    def from_float(cls, layer: nn.Conv2d, **settings: Any) -> SurgeConv2d:
        """Build the binary layer that continues with the parameters of ``layer``, the same tensors.

        Args:
            layer (nn.Conv2d): A real convolution.
            **settings (Any): ``activation``, ``weight``, ``compensator`` and ``pad_value`` of the constructor.
        """
        with torch.random.fork_rng(devices=[]):  # the draw is discarded, so keep the generator
            binary = cls(**_arguments(layer), **settings)
        return binary._take(layer)

    def to_float(self) -> nn.Conv2d:
        """Return the real convolution with the weight and bias of this layer, the same tensors."""
        return self._give(nn.Conv2d(**_arguments(self), device='meta'))

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
        if isinstance(x, fx.Proxy):
            return self._node(x)
        if x.dim() == 3:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        if self.padding_mode != 'zeros':
            x = F.pad(x, self._reversed_padding_repeated_twice, mode=self.padding_mode)
        return self._dual_path(self.convolution, x, self.pad_value)

    def _conv_forward(self, *args: Any, **kwargs: Any) -> Tensor:
        raise RuntimeError(
            'SurgeConv2d: the latent weight was used as the weight of a real convolution. In ConvModule, set '
            'efficient_conv_bn_eval=False'
        )

    def extra_repr(self) -> str:
        return f'{super().extra_repr()}, pad_value={self.pad_value}'


def _arguments(conv: nn.Conv2d) -> dict[str, Any]:
    """Return the arguments of :class:`torch.nn.Conv2d` that made ``conv``."""
    geometry = ('kernel_size', 'stride', 'padding', 'dilation', 'groups')
    names = ('in_channels', 'out_channels', *geometry, 'padding_mode')
    return {'bias': conv.bias is not None, **{name: getattr(conv, name) for name in names}}
