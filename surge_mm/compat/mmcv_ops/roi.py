"""Pooling of regions of interest (RoIs), as in ``mmcv._ext``, computed by torchvision.

A RoI (n, x1, y1, x2, y2) is divided into ``height x width`` bins on the feature map of image n. RoIAlign interpolates
the feature map bilinearly at a grid of sample points in each bin, and returns their mean. The maximum, which no model
of MMDetection uses, is not available. Half precision is computed in float32.

Source: K. He et al., "Mask R-CNN", 2017.
"""

import torch
from torch import Tensor

from surge_mm.compat.mmcv_ops import to_full_precision, torchvision_operators


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
        ValueError: on a CPU, if a region is of no image, or of a size for which torchvision fails.
    """
    if pool_mode != 1:
        raise NotImplementedError(
            "RoIAlign with pool_mode='max' is not available: torchvision computes the mean only. Use pool_mode='avg', "
            'or install the full mmcv in place of mmcv-lite'
        )
    features, rois = to_full_precision(input), to_full_precision(rois)
    size = (aligned_height, aligned_width)
    if type(rois) is Tensor and rois.device.type == 'cpu' and not torch.compiler.is_compiling():
        _check(rois, len(features), size, spatial_scale, sampling_ratio, aligned)
    output.copy_(
        torchvision_operators().roi_align(
            features, rois, spatial_scale, *size, sampling_ratio, aligned
        )
    )


def _check(
    rois: Tensor,
    images: int,
    size: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> None:
    """Check the regions: torchvision reads outside of the images, and allocates all sample points of a region."""
    faults = ~((rois[:, 0] >= 0) & (rois[:, 0] < images))
    if sampling_ratio <= 0:
        sides = (rois[:, 3:] - rois[:, 1:3]) * spatial_scale
        sides = sides if aligned else sides.clamp(min=1)
        bins = rois.new_tensor(size[::-1])
        points = ((sides / bins).ceil() * bins).double().prod(1)
        faults |= points.isfinite() & ((points < 0) | (points >= 2**31))
    if faults.any():
        raise ValueError(
            f'RoIAlign: the region {rois[faults][0].tolist()} (image, x1, y1, x2, y2) must be in one of {images} '
            f'images, with x1 <= x2 and y1 <= y2, and have less than 2^31 sample points'
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
        torchvision_operators()._roi_align_backward(
            grad, rois, spatial_scale, *size, sampling_ratio, aligned
        )
    )
