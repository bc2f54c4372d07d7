"""Deformable convolution, as ``mmcv._ext`` serves it, computed by torchvision.

A convolution samples its input at a fixed grid p + k. The deformable one adds a learned offset to
each sample point, and its second version (modulated) a learned mask as well::

    y(p) = sum_k w_k m_k(p) x(p + k + offset_k(p))       (m = 1 in the first version)

with bilinear interpolation of x between pixels. Results are written into ``output`` and into the
``grad_...`` arguments. ``columns``, ``ones`` and ``im2col_step`` belong to mmcv's way of computing
and are not used. The geometry comes by keyword, under mmcv's names: ``dH, padH, dilationH, group``
and so on in the first version, ``stride_h, pad_h, dilation_h, group`` in the second. Half precision
is computed in float32.

Shapes: input (N, C, H, W), weight (C', C / group, kH, kW), offset (N, 2 deformable_group kH kW, H',
W') with y before x, mask (N, deformable_group kH kW, H', W'), output (N, C', H', W').

Source: J. Dai et al., "Deformable convolutional networks", 2017; X. Zhu et al., "Deformable
ConvNets v2", 2019.
"""

import torch
import torchvision  # noqa: F401  (defines torch.ops.torchvision)
from torch import Tensor

from surge_mm.compat.mmcv_ops.precision import wide

_GEOMETRY = ('dH', 'dW', 'padH', 'padW', 'dilationH', 'dilationW', 'group', 'deformable_group')
_MODULATED_GEOMETRY = (
    'stride_h',
    'stride_w',
    'pad_h',
    'pad_w',
    'dilation_h',
    'dilation_w',
    'group',
    'deformable_group',
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
    """Deformable convolution without mask and bias."""
    output.copy_(
        torch.ops.torchvision.deform_conv2d(
            *_unmasked(input, weight, offset), *(geometry[name] for name in _GEOMETRY), False
        )
    )


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
    """Gradients of the deformable convolution by its input and its offsets."""
    by_input, _, by_offset, _, _ = torch.ops.torchvision._deform_conv2d_backward(
        wide(grad_output),
        *_unmasked(input, weight, offset),
        *(geometry[name] for name in _GEOMETRY),
        False,
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
    """Adds ``scale`` times the gradient by the weights to ``grad_weight``."""
    _, by_weight, _, _, _ = torch.ops.torchvision._deform_conv2d_backward(
        wide(grad_output),
        *_unmasked(input, torch.zeros_like(grad_weight), offset),
        *(geometry[name] for name in _GEOMETRY),
        False,
    )
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
    """Deformable convolution with a mask, and with ``bias`` (C',) if ``with_bias``."""
    if not with_bias:
        bias = weight.new_zeros(len(weight))
    output.copy_(
        torch.ops.torchvision.deform_conv2d(
            *map(wide, (input, weight, offset, mask, bias)),
            *(geometry[name] for name in _MODULATED_GEOMETRY),
            True,
        )
    )


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
    """Gradients of the modulated deformable convolution by everything that it takes."""
    if not with_bias:
        bias = weight.new_zeros(len(weight))
    gradients = torch.ops.torchvision._deform_conv2d_backward(
        *map(wide, (grad_output, input, weight, offset, mask, bias)),
        *(geometry[name] for name in _MODULATED_GEOMETRY),
        True,
    )
    targets = (grad_input, grad_weight, grad_offset, grad_mask)
    for target, gradient in zip(targets, gradients, strict=False):
        target.copy_(gradient)
    if with_bias:
        grad_bias.copy_(gradients[4])


def _unmasked(input: Tensor, weight: Tensor, offset: Tensor) -> tuple[Tensor, ...]:
    """The tensors that torchvision takes, with a mask it will not read and a bias of zero."""
    input, weight, offset = wide(input), wide(weight), wide(offset)
    return input, weight, offset, input.new_zeros(len(input), 1), input.new_zeros(len(weight))
