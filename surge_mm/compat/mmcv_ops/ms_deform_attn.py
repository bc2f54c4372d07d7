"""Multi-scale deformable attention, as in ``mmcv._ext``, computed by mmcv's own form in PyTorch.

mmcv calls the compiled operator for tensors on a GPU, and its form in PyTorch elsewhere. Half precision is computed in
float32.

Shapes: value (N, K, heads, C / heads) for the K pixels of all levels, spatial shapes (levels, 2) with the height before
the width, sampling locations (N, Q, heads, levels, points, 2), attention weights (N, Q, heads, levels, points), output
(N, Q, C).

Source: X. Zhu et al., "Deformable DETR: deformable transformers for end-to-end object detection", 2021.
"""

import importlib

import torch
from torch import Tensor

from surge_mm.compat.mmcv_ops import to_full_precision


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Return the attention, see the module for the shapes.

    Args:
        value, value_spatial_shapes, sampling_locations, attention_weights (Tensor): operands.
        value_level_start_index (Tensor): index of the first pixel of each level, not used.
        im2col_step (int): size of the batches of mmcv, not used.
    """
    mmcv = importlib.import_module('mmcv.ops.multi_scale_deform_attn')
    value_, locations, weights = map(
        to_full_precision, (value, sampling_locations, attention_weights)
    )
    out = mmcv.multi_scale_deformable_attn_pytorch(
        value_, value_spatial_shapes.tolist(), locations, weights
    )
    return out.to(value.dtype)


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Compute the gradients with respect to value, sampling locations and attention weights.

    Args:
        value, value_spatial_shapes, sampling_locations, attention_weights (Tensor): operands of the forward pass.
        value_level_start_index (Tensor): as in :func:`ms_deform_attn_forward`.
        grad_output (Tensor): gradient of the output.
        grad_value, grad_sampling_loc, grad_attn_weight (Tensor): filled with the results.
        im2col_step (int): as in :func:`ms_deform_attn_forward`.
    """
    leaves = [t.detach().requires_grad_() for t in (value, sampling_locations, attention_weights)]
    value, sampling_locations, attention_weights = leaves
    with torch.enable_grad():
        out = ms_deform_attn_forward(
            value,
            value_spatial_shapes,
            value_level_start_index,
            sampling_locations,
            attention_weights,
            im2col_step,
        )
    gradients = torch.autograd.grad(out, leaves, grad_output)
    targets = (grad_value, grad_sampling_loc, grad_attn_weight)
    for target, gradient in zip(targets, gradients, strict=True):
        target.copy_(gradient)
