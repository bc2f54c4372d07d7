"""The maps that layers compute and differentiate: convolution and linear map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from surge_mm.ops.signs import is_exporting


class BilinearMap(Protocol):
    """A map that is linear in its input and in its weight."""

    def forward(self, x: Tensor, w: Tensor, bias: Tensor | None, pad_value: float) -> Tensor:
        """Return ``w * x + bias``.

        Args:
            x (Tensor): Input.
            w (Tensor): Weight, ``(C_out, ...)``.
            bias (Tensor, optional): ``(C_out,)``.
            pad_value (float): Padding value of ``x``.
        """

    def backward(
        self, g: Tensor, x: Tensor, w: Tensor, pad_value: float, mask: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients of ``(w * x, g)`` for x and for w.

        Args:
            g (Tensor): Of the shape of the output.
            x (Tensor): Input.
            w (Tensor): Weight, ``(C_out, ...)``.
            pad_value (float): Padding value of ``x``.
            mask (tuple[bool, bool]): Which of the two to compute; the other is None.
        """

    def bias_gradient(self, g: Tensor) -> Tensor:
        """Return the gradient of the bias, ``(C_out,)``, summed in float32 or wider."""

    def per_filter(self, values: Tensor) -> Tensor:
        """Reshape numbers per filter, C_out of them or one for all, to broadcast to the output."""

    def window_sums(self, x: Tensor, w: Tensor, pad_value: float) -> Tensor:
        """Return ``1 * x``, the map with a weight of ones.

        Args:
            x (Tensor): Input.
            w (Tensor): Weight whose shape, dtype and device count; its values do not.
            pad_value (float): Padding value of ``x``.

        Returns:
            Tensor: Broadcasts to the output.
        """


@dataclass(frozen=True)
class Convolution(BilinearMap):
    """``(N, C_in, H, W) -> (N, C_out, H', W')`` with weights ``(C_out, C_in / groups, kH, kW)``.

    Args:
        stride (tuple[int, int]): Vertical, horizontal. Defaults to (1, 1).
        padding (tuple[int, int, int, int]): Columns and rows, as for :func:`torch.nn.functional.pad`: left, right, top,
            bottom. Defaults to no padding.
        dilation (tuple[int, int]): Vertical, horizontal. Defaults to (1, 1).
        groups (int): Number of groups. Defaults to 1.
    """

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of an input with its padding.

        Args:
            height (int): Height of the input, in pixels.
            width (int): Width of the input, in pixels.
        """
        left, right, top, bottom = self.padding
        return height + top + bottom, width + left + right

    def output_size(self, height: int, width: int, kernel_size: tuple[int, int]) -> tuple[int, int]:
        """Return the height and width of the output.

        Args:
            height (int): Height of the input, in pixels.
            width (int): Width of the input, in pixels.
            kernel_size (tuple[int, int]): Height and width of the kernel, kH and kW.

        Returns:
            tuple[int, int]: H' and W'; below 1 where the kernel is larger than the padded input.
        """
        rows, columns = (
            (size - dilation * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, dilation in zip(
                self.padded_size(height, width),
                kernel_size,
                self.stride,
                self.dilation,
                strict=True,
            )
        )
        return rows, columns

    def _pads_within_conv2d(self, pad_value: float) -> bool:
        left, right, top, bottom = self.padding
        return pad_value == 0 and left == right and top == bottom

    def _pad(self, x: Tensor, pad_value: float) -> tuple[Tensor, list[int]]:
        """Return the input of conv2d and the padding that conv2d adds itself."""
        left, _, top, _ = self.padding
        if self._pads_within_conv2d(pad_value):
            return x, [top, left]
        return F.pad(x, self.padding, value=pad_value), [0, 0]

    def idles(self, width: int, kernel_width: int) -> bool:
        """Return whether the stride is above 1 along an output of one column, where it has no effect.

        oneDNN's convolutions of bytes and of bfloat16 by AMX are wrong there from the second row on, as of PyTorch 2.12
        (pytorch/pytorch issue 169688). With a stride of 1 they are right, and the first column is the output.

        Args:
            width (int): Width of the input with its padding, in pixels.
            kernel_width (int): kW.
        """
        return width - self.dilation[1] * (kernel_width - 1) <= self.stride[1] != 1

    def forward(self, x: Tensor, w: Tensor, bias: Tensor | None, pad_value: float) -> Tensor:
        x, padding = self._pad(x, pad_value)
        if x.dtype is torch.bfloat16 and self.idles(x.shape[-1] + 2 * padding[1], w.shape[-1]):
            stride = (self.stride[0], 1)
            out = F.conv2d(x, w, bias, stride, padding, self.dilation, self.groups)
            return out[..., :1].contiguous()
        return F.conv2d(x, w, bias, self.stride, padding, self.dilation, self.groups)

    def backward(
        self, g: Tensor, x: Tensor, w: Tensor, pad_value: float, mask: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        height, width = x.shape[-2:]
        left, _, top, _ = self.padding
        x, padding = self._pad(x, pad_value)
        grad_x, grad_w, _ = torch.ops.aten.convolution_backward(
            g,
            x,
            w,
            None,
            self.stride,
            padding,
            self.dilation,
            False,
            [0, 0],
            self.groups,
            [*mask, False],
        )
        if mask[0] and not self._pads_within_conv2d(pad_value):
            grad_x = grad_x[..., top : top + height, left : left + width]
        return grad_x, grad_w

    def bias_gradient(self, g: Tensor) -> Tensor:
        return g.sum(dim=(0, 2, 3), dtype=torch.promote_types(g.dtype, torch.float32))

    def per_filter(self, values: Tensor) -> Tensor:
        return values.reshape(-1, 1, 1)

    def window_sums(self, x: Tensor, w: Tensor, pad_value: float) -> Tensor:
        ones = torch.ones_like(w[: self.groups])
        sums = self.forward(x, ones, None, pad_value)
        return sums if self.groups == 1 else sums.repeat_interleave(len(w) // self.groups, 1)


@dataclass(frozen=True)
class LinearMap(BilinearMap):
    """``(..., C_in) -> (..., C_out)`` with weights ``(C_out, C_in)``; ``pad_value`` has no effect."""

    def forward(self, x: Tensor, w: Tensor, bias: Tensor | None, pad_value: float) -> Tensor:
        out = F.linear(x, w, bias)
        if bias is not None and x.dim() > 2 and not is_exporting():  # exporters lack the operator
            # PyTorch returns a view, which a module behind the layer could not change in place
            out = torch.ops.aten._unsafe_view(out, out.shape)
        return out

    def backward(
        self, g: Tensor, x: Tensor, w: Tensor, pad_value: float, mask: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        grad_x = g @ w if mask[0] else None
        grad_w = _rows(g).t() @ _rows(x) if mask[1] else None
        return grad_x, grad_w

    def bias_gradient(self, g: Tensor) -> Tensor:
        return _rows(g).sum(dim=0, dtype=torch.promote_types(g.dtype, torch.float32))

    def per_filter(self, values: Tensor) -> Tensor:
        return values.reshape(-1)

    def window_sums(self, x: Tensor, w: Tensor, pad_value: float) -> Tensor:
        return x.sum(-1, keepdim=True)


def _rows(x: Tensor) -> Tensor:
    """Return ``x`` as a matrix of vectors of its last axis."""
    return x.reshape(-1, x.shape[-1])  # is_grads_batched=True does not support flatten
