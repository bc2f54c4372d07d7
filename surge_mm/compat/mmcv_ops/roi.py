"""Pooling of regions of interest (RoIs), as in ``mmcv._ext``, computed by torchvision.

A RoI (n, x1, y1, x2, y2) is divided into ``height x width`` bins on the feature map of image n. RoIAlign interpolates
the feature map bilinearly at a grid of sample points in each bin, and returns their mean. The maximum, which no model
of MMDetection uses, is not available. Half precision is computed in float32.

Source: K. He et al., "Mask R-CNN", 2017.
"""

import torch
import torchvision  # noqa: F401  (defines torch.ops.torchvision)
from torch import Tensor

from surge_mm.compat.mmcv_ops import to_full_precision


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Compute RoIAlign.

    Args:
        input (Tensor): feature maps, shape (N, C, H, W).
        rois (Tensor): regions, shape (R, 5).
        output (Tensor): filled with the result, shape (R, C, aligned_height, aligned_width).
        argmax_y, argmax_x (Tensor): buffers of mmcv for the maximum, not used.
        aligned_height, aligned_width (int): number of bins.
        spatial_scale (float): size of the feature map relative to the image of the RoIs.
        sampling_ratio (int): sample points of a bin in each direction; 0 for about one a pixel.
        pool_mode (int): 1, the mean.
        aligned (bool): whether the centers of pixels, not their corners, have integer coordinates.

    Raises:
        NotImplementedError: if ``pool_mode`` is that of the maximum.
    """
    if pool_mode != 1:
        raise NotImplementedError(
            "RoIAlign with pool_mode='max' is not available: torchvision computes the mean only. Use pool_mode='avg', "
            'or install the full mmcv in place of mmcv-lite'
        )
    features, rois = to_full_precision(input), to_full_precision(rois)
    size = (aligned_height, aligned_width)
    output.copy_(
        torch.ops.torchvision.roi_align(
            features, rois, spatial_scale, *size, sampling_ratio, aligned
        )
    )


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Compute the gradient of RoIAlign with respect to the feature maps.

    Args:
        grad_output (Tensor): gradient of the output, shape (R, C, aligned_height, aligned_width).
        rois, argmax_y, argmax_x (Tensor): as in :func:`roi_align_forward`.
        grad_input (Tensor): filled with the result, shape (N, C, H, W).
        aligned_height, aligned_width, sampling_ratio, pool_mode (int): as in :func:`roi_align_forward`.
        spatial_scale (float): as in :func:`roi_align_forward`.
        aligned (bool): as in :func:`roi_align_forward`.
    """
    grad, rois = to_full_precision(grad_output), to_full_precision(rois)
    size = (aligned_height, aligned_width, *grad_input.shape)
    grad_input.copy_(
        torch.ops.torchvision._roi_align_backward(
            grad, rois, spatial_scale, *size, sampling_ratio, aligned
        )
    )
