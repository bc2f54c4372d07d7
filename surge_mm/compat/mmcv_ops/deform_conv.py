"""Deformable convolution, as in ``mmcv._ext``, computed by torchvision.

A convolution samples its input at a fixed grid p + k. The deformable convolution adds a learned offset to each sample
point, and its second version (modulated) also a learned mask::

    y(p) = sum_k w_k m_k(p) x(p + k + offset_k(p))       (m = 1 in the first version)

with bilinear interpolation of x between pixels. Results are written into ``output`` and into the ``grad_...``
arguments. Half precision is computed in float32.

Shapes: input (N, C, H, W), weight (C', C / group, kH, kW), offset (N, 2 deformable_group kH kW, H', W') with y before
x, mask (N, deformable_group kH kW, H', W'), output (N, C', H', W'). Offset and mask of the second version may be larger
than the output, as in DyHead: as in mmcv, the first numbers of each sample are read, as if they had H' rows and W'
columns.

The geometry is given by keywords with the names of mmcv: ``dH``, ``dW``, ``padH``, ``padW``, ``dilationH``,
``dilationW``, ``group`` and ``deformable_group`` in the first version; ``stride_h``, ``stride_w``, ``pad_h``,
``pad_w``, ``dilation_h``, ``dilation_w``, ``group`` and ``deformable_group`` in the second.

Source: J. Dai et al., "Deformable convolutional networks", 2017; X. Zhu et al., "Deformable ConvNets v2", 2019.
"""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from surge_mm.compat.mmcv_ops import to_full_precision, torchvision_operators

_GROUPS = ('group', 'deformable_group')
_GEOMETRY = ('dH', 'dW', 'padH', 'padW', 'dilationH', 'dilationW', *_GROUPS)
_MODULATED_GEOMETRY = (
    'stride_h',
    'stride_w',
    'pad_h',
    'pad_w',
    'dilation_h',
    'dilation_w',
    *_GROUPS,
)


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    **geometry: int,
) -> None:
    """Compute the deformable convolution without mask and bias.

    Args:
        input, weight, offset (Tensor): operands, see the module for their shapes.
        output (Tensor): filled with the result.
        columns, ones (Tensor): buffers of mmcv, not used.
        **geometry (int): see the module.
    """
    operands = _operands(geometry, input, weight, offset)
    output.copy_(torchvision_operators().deform_conv2d(*operands))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **geometry: int,
) -> None:
    """Compute the gradients of the deformable convolution with respect to its input and offsets.

    Args:
        input, offset (Tensor): operands of the forward pass.
        grad_output (Tensor): gradient of the output.
        grad_input, grad_offset (Tensor): filled with the results.
        weight (Tensor): operand of the forward pass.
        columns (Tensor): buffer of mmcv, not used.
        **geometry (int): see the module.
    """
    by_input, _, by_offset, _, _ = _gradients(
        grad_output, _operands(geometry, input, weight, offset)
    )
    grad_input.copy_(by_input)
    grad_offset.copy_(by_offset)


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    scale: float,
    **geometry: int,
) -> None:
    """Add ``scale`` times the gradient with respect to the weight to ``grad_weight``.

    Args:
        input, offset (Tensor): operands of the forward pass.
        grad_output (Tensor): gradient of the output.
        grad_weight (Tensor): changed in place.
        columns, ones (Tensor): buffers of mmcv, not used.
        scale (float): factor of the gradient.
        **geometry (int): see the module.
    """
    weight = torch.zeros_like(grad_weight)  # its value does not matter
    _, by_weight, _, _, _ = _gradients(grad_output, _operands(geometry, input, weight, offset))
    grad_weight.add_(by_weight, alpha=scale)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    with_bias: bool,
    **geometry: int,
) -> None:
    """Compute the deformable convolution with a mask.

    Args:
        input, weight (Tensor): operands, see the module for their shapes.
        bias (Tensor): shape (C',), used if ``with_bias``.
        ones (Tensor): buffer of mmcv, not used.
        offset, mask (Tensor): operands.
        output (Tensor): filled with the result.
        columns (Tensor): buffer of mmcv, not used.
        with_bias (bool): whether to add the bias.
        **geometry (int): see the module.
    """
    offset, mask = (_as_read(t, output.shape[2:]) for t in (offset, mask))
    operands = _operands(geometry, input, weight, offset, mask, bias if with_bias else None)
    output.copy_(torchvision_operators().deform_conv2d(*operands))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    with_bias: bool,
    **geometry: int,
) -> None:
    """Compute the gradients of the deformable convolution with a mask with respect to all its operands.

    Args:
        input, weight, bias (Tensor): operands of the forward pass.
        ones (Tensor): buffer of mmcv, not used.
        offset, mask (Tensor): operands of the forward pass.
        columns (Tensor): buffer of mmcv, not used.
        grad_input, grad_weight, grad_bias, grad_offset, grad_mask (Tensor): filled with the results; ``grad_bias`` only
            if ``with_bias``.
        grad_output (Tensor): gradient of the output.
        with_bias (bool): whether the forward pass added the bias.
        **geometry (int): see the module.
    """
    offset, mask = (_as_read(t, grad_output.shape[2:]) for t in (offset, mask))
    operands = _operands(geometry, input, weight, offset, mask, bias if with_bias else None)
    gradients = _gradients(grad_output, operands)
    targets = (grad_input, grad_weight, grad_offset, grad_mask)
    for target, gradient in zip(targets, gradients, strict=False):
        not_read = target[:1].numel() - gradient[:1].numel()
        target.copy_(F.pad(gradient.flatten(1), (0, not_read)).view(target.shape))
    if with_bias:
        grad_bias.copy_(gradients[4])


def _operands(
    geometry: dict[str, int],
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
) -> tuple[Any, ...]:
    """Return the arguments that torchvision expects. It takes a mask and a bias also where there is none."""
    names = _GEOMETRY if mask is None else _MODULATED_GEOMETRY
    tensors = (
        input,
        weight,
        offset,
        input.new_zeros(len(input), 1) if mask is None else mask,
        weight.new_zeros(len(weight)) if bias is None else bias,
    )
    return (
        *map(to_full_precision, tensors),
        *(geometry[name] for name in names),
        mask is not None,
    )


def _as_read(x: Tensor, size: torch.Size) -> Tensor:
    """Return the first numbers of each sample of ``x`` as maps of ``size``, unless ``x`` is smaller."""
    channels = x.shape[1]
    count = channels * size.numel()
    return x.flatten(1)[:, :count].view(-1, channels, *size) if count < x[0].numel() else x


def _gradients(grad_output: Tensor, operands: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """Return the gradients with respect to input, weight, offset, mask and bias."""
    grad = to_full_precision(grad_output)
    gradients = torchvision_operators()._deform_conv2d_backward(grad, *operands)
    gradients[2].masked_fill_(_at_border(*operands[1:3], *operands[5:11]), 0)
    return gradients


def _at_border(
    weight: Tensor,
    offset: Tensor,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
) -> Tensor:
    """Return where an offset leads to the coordinate -1, in the shape of ``offset``.

    Interpolation has a kink there: zeros before, the first pixel after. mmcv takes the derivative on the side of the
    zeros, torchvision that on the other. With padding, offsets of 0 lead there, with which ``conv_offset`` starts.
    """
    kernel_h, kernel_w = weight.shape[2:]
    height, width = offset.shape[2:]
    steps = partial(torch.arange, dtype=offset.dtype, device=offset.device)
    rows = dilation_h * steps(kernel_h)[:, None] + stride_h * steps(height) - pad_h
    columns = dilation_w * steps(kernel_w)[:, None] + stride_w * steps(width) - pad_w
    shape = (kernel_h, kernel_w, height, width)
    grid = torch.stack(
        [rows[:, None, :, None].expand(shape), columns[None, :, None, :].expand(shape)], 2
    )
    return (offset.unflatten(1, (-1, *grid.shape[:3])) + grid == -1).view(offset.shape)
