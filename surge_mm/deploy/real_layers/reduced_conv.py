"""Base of the real-valued convolutions of a packed model that compute in a smaller dtype."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from surge_mm.deploy.cpu.geometry import check_input
from surge_mm.deploy.packing.prepared import PreparedModule
from surge_mm.ops import Convolution
from surge_mm.utils.errors import UsageError


class ReducedConv2d(PreparedModule, ABC):
    """Convolution ``(N, C_in, H, W) -> (N, C_out, H', W')`` with float32 in and out, for inference only.

    A subclass defines ``compute``, and sets the buffer ``weight``.

    Args:
        conv (nn.Conv2d): The convolution that it replaces.
    """

    dtype: str
    """Name of the dtype, as ``real`` of :func:`surge_mm.deploy.pack`."""
    weight: Tensor
    folded: tuple[str, ...] = ()
    """Names, in the model before, of the modules after the convolution that are part of it."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.in_channels, self.out_channels = conv.in_channels, conv.out_channels
        self.kernel_size, self.padding_mode = conv.kernel_size, conv.padding_mode
        left, right, top, bottom = conv._reversed_padding_repeated_twice
        given, nothing = (left, right, top, bottom), (0, 0, 0, 0)
        zeros = conv.padding_mode == 'zeros'
        self.input_padding = nothing if zeros else given
        padding = given if zeros else nothing
        stride, dilation = (tuple(map(int, pair)) for pair in (conv.stride, conv.dilation))
        self.convolution = Convolution(stride, padding, dilation, conv.groups)  # type: ignore[arg-type]
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the convolution.

        Args:
            x (Tensor): ``(N, C_in, H, W)`` or ``(C_in, H, W)``.

        Raises:
            UsageError: if a gradient is asked for, or the input has another shape than the layer takes.
        """
        if x.dim() == 3:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        if x.requires_grad and torch.is_grad_enabled():
            raise UsageError(
                f'{type(self).__name__} has no gradient: packed models are for inference. Train the model before it is '
                'packed'
            )
        if any(self.input_padding):
            x = F.pad(x, self.input_padding, mode=self.padding_mode)
        return self.compute(x)

    def check_input(self, x: Tensor) -> None:
        """Check the shape of an input.

        Args:
            x (Tensor): ``(N, C_in, H, W)``.

        Raises:
            UsageError: if it is not that of an input.
        """
        check_input(self.convolution, self.weight.shape, x.shape)

    @abstractmethod
    def compute(self, x: Tensor) -> Tensor:
        """Return the output.

        Args:
            x (Tensor): ``(N, C_in, H, W)``, with the padding of a ``padding_mode`` other than 'zeros'.

        Raises:
            UsageError: if it has another shape than the layer takes.
        """

    def extra_repr(self) -> str:
        c = self.convolution
        return (
            f'{self.in_channels}, {self.out_channels}, kernel_size={tuple(self.kernel_size)}, stride={c.stride}, '
            f'padding={c.padding}, groups={c.groups}'
        )
