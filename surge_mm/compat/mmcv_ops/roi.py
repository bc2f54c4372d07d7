"""Pooling of regions of interest (RoIs), as in ``mmcv._ext``.

A RoI (n, x1, y1, x2, y2) is divided into ``height x width`` bins on the feature map of image n:

- RoIAlign interpolates the feature map bilinearly at a grid of sample points in each bin, and returns their mean or
  maximum. torchvision computes the mean; the maximum is computed here.
- RoIPool returns the maximum over the pixels that a bin touches. torchvision rounds the RoI to pixels first and mmcv
  does not, so it is computed here.

Results are written into ``output``, ``argmax...`` and ``grad_input``, as mmcv expects. Half precision is computed in
float32.

Source: K. He et al., "Mask R-CNN", 2017 (RoIAlign); R. Girshick, "Fast R-CNN", 2015 (RoIPool).
"""

import torch
import torchvision  # noqa: F401  (defines torch.ops.torchvision)
from torch import Tensor

from surge_mm.compat.mmcv_ops import to_full_precision

_EMPTY_BIN = -10000.0  # result of mmcv's RoIAlign for the maximum of a bin without sample points


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
        argmax_y, argmax_x (Tensor): shape of ``output``. For the maximum, filled with the coordinates of the largest
            sample, -1 where there is none.
        aligned_height, aligned_width (int): number of bins.
        spatial_scale (float): size of the feature map relative to the image of the RoIs.
        sampling_ratio (int): sample points of a bin in each direction; 0 for about one a pixel.
        pool_mode (int): 0 for the maximum, 1 for the mean.
        aligned (bool): whether the centers of pixels, not their corners, have integer coordinates.
    """
    size = (aligned_height, aligned_width)
    if pool_mode == 1:
        pooled = torch.ops.torchvision.roi_align(
            to_full_precision(input),
            to_full_precision(rois),
            spatial_scale,
            *size,
            sampling_ratio,
            aligned,
        )
        output.copy_(pooled)
        return

    features, rois = to_full_precision(input), to_full_precision(rois)
    corners = rois[:, 1:] * spatial_scale - (0.5 if aligned else 0.0)
    for r, image in enumerate(rois[:, 0].long().tolist()):
        x1, y1, x2, y2 = corners[r].unbind()
        y, rows = _sample_points(y1, y2, aligned_height, sampling_ratio, aligned)
        x, columns = _sample_points(x1, x2, aligned_width, sampling_ratio, aligned)
        if rows * columns == 0:
            output[r], argmax_y[r], argmax_x[r] = _EMPTY_BIN, -1, -1
            continue
        samples = _interpolate(features[image], y, x)
        samples = samples.unflatten(2, (aligned_width, columns)).unflatten(
            1, (aligned_height, rows)
        )
        best, index = samples.transpose(2, 3).flatten(3).max(dim=3)
        output[r] = best
        row_of_bin = torch.arange(aligned_height, device=y.device)[:, None] * rows
        column_of_bin = torch.arange(aligned_width, device=x.device) * columns
        argmax_y[r] = y[row_of_bin + index // columns]
        argmax_x[r] = x[column_of_bin + index % columns]


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
    n, c, height, width = grad_input.shape
    grad, rois = to_full_precision(grad_output), to_full_precision(rois)
    if pool_mode == 1:
        size = (aligned_height, aligned_width, n, c, height, width)
        grad_input.copy_(
            torch.ops.torchvision._roi_align_backward(
                grad, rois, spatial_scale, *size, sampling_ratio, aligned
            )
        )
        return

    plane = _plane_of(rois, c, height * width)
    y_low, y_high, y_fraction, y_inside = _neighbors(to_full_precision(argmax_y), height)
    x_low, x_high, x_fraction, x_inside = _neighbors(to_full_precision(argmax_x), width)
    has_maximum = y_inside & x_inside & (argmax_y != -1)
    grad = torch.where(has_maximum, grad, torch.zeros_like(grad))
    indices, values = [], []
    for y, y_weight in ((y_low, 1 - y_fraction), (y_high, y_fraction)):
        for x, x_weight in ((x_low, 1 - x_fraction), (x_high, x_fraction)):
            indices.append(plane + y * width + x)
            values.append(grad * (y_weight * x_weight))
    total = torch.zeros(grad_input.numel(), dtype=grad.dtype, device=grad.device)
    total.index_add_(0, torch.stack(indices, -1).flatten(), torch.stack(values, -1).flatten())
    grad_input.copy_(total.view_as(grad_input))


def roi_pool_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Compute RoIPool.

    Bin i of a RoI with the extent [a, b) along an axis contains the pixels from ``floor(a + i s)`` up to, but not
    including, ``ceil(a + (i + 1) s)``, where ``s = (b - a) / bins``; b includes the last pixel. The result is 0 for a
    bin without pixels and for a RoI whose sides are not positive.

    Args:
        input (Tensor): feature maps, shape (N, C, H, W).
        rois (Tensor): regions, shape (R, 5).
        output (Tensor): filled with the result, shape (R, C, pooled_height, pooled_width).
        argmax (Tensor): int32, shape of ``output``, filled with ``y W + x`` of the largest pixel; -1 if there is none.
        pooled_height, pooled_width (int): number of bins.
        spatial_scale (float): size of the feature map relative to the image of the RoIs.
    """
    features, rois = to_full_precision(input), to_full_precision(rois)
    height, width = features.shape[2:]
    start, stop = rois[:, 1:3] * spatial_scale, (rois[:, 3:5] + 1) * spatial_scale
    is_valid = (stop > start).all(dim=1).tolist()
    x_bins = _pixel_bins(start[:, 0], stop[:, 0], pooled_width, width)
    y_bins = _pixel_bins(start[:, 1], stop[:, 1], pooled_height, height)
    output.zero_()
    argmax.fill_(-1)
    for r, image in enumerate(rois[:, 0].long().tolist()):
        if not is_valid[r]:
            continue
        for column, (x1, x2) in enumerate(x_bins[r]):
            if x1 == x2:
                continue
            best_of_row, x = features[image, :, :, x1:x2].max(dim=2)
            for row, (y1, y2) in enumerate(y_bins[r]):
                if y1 == y2:
                    continue
                best, y = best_of_row[:, y1:y2].max(dim=1)
                y = y + y1
                output[r, :, row, column] = best
                argmax[r, :, row, column] = y * width + x1 + x.gather(1, y[:, None])[:, 0]


def roi_pool_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax: Tensor,
    grad_input: Tensor,
    pooled_height: int,
    pooled_width: int,
    spatial_scale: float,
) -> None:
    """Compute the gradient of RoIPool with respect to the feature maps: that of each bin belongs to its largest pixel.

    Args:
        grad_output (Tensor): gradient of the output, shape (R, C, pooled_height, pooled_width).
        rois, argmax (Tensor): as in :func:`roi_pool_forward`.
        grad_input (Tensor): filled with the result, shape (N, C, H, W).
        pooled_height, pooled_width (int): as in :func:`roi_pool_forward`.
        spatial_scale (float): as in :func:`roi_pool_forward`.
    """
    _, c, height, width = grad_input.shape
    grad = to_full_precision(grad_output)
    grad = torch.where(argmax >= 0, grad, torch.zeros_like(grad))
    index = _plane_of(rois, c, height * width) + argmax.clamp(min=0)
    total = torch.zeros(grad_input.numel(), dtype=grad.dtype, device=grad.device)
    total.index_add_(0, index.flatten(), grad.flatten())
    grad_input.copy_(total.view_as(grad_input))


def _plane_of(rois: Tensor, channels: int, pixels: int) -> Tensor:
    """Return where the feature planes of each RoI begin in the flattened input, shape (R, C, 1, 1)."""
    channel = torch.arange(channels, device=rois.device)
    return ((rois[:, :1].long() * channels + channel) * pixels)[:, :, None, None]


def _pixel_bins(start: Tensor, stop: Tensor, bins: int, size: int) -> list[list[list[int]]]:
    """Return the first and the last pixel + 1 of each bin along one axis, for each RoI: R x bins x 2."""
    step = ((stop - start) / bins)[:, None]
    edge = torch.arange(bins + 1, device=start.device, dtype=start.dtype) * step + start[:, None]
    first = edge[:, :-1].floor().clamp(0, size)
    last = edge[:, 1:].ceil().clamp(0, size)
    return torch.stack([first, torch.maximum(first, last)], dim=2).long().tolist()


def _sample_points(
    start: Tensor, stop: Tensor, bins: int, sampling_ratio: int, aligned: bool
) -> tuple[Tensor, int]:
    """Return the coordinates of the sample points of a RoI along one axis, (bins * per_bin,), and ``per_bin``.

    With ``sampling_ratio`` 0, a bin has about one sample point a pixel.
    """
    length = stop - start if aligned else (stop - start).clamp(min=1)
    per_bin = sampling_ratio if sampling_ratio > 0 else int((length / bins).ceil())
    bin_size = length / bins
    bin_start = start + torch.arange(bins, device=start.device) * bin_size
    center = torch.arange(per_bin, device=start.device) + 0.5
    if per_bin > 0:
        center = center.to(start) * bin_size / per_bin
    return (bin_start[:, None] + center).flatten(), per_bin


def _neighbors(position: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the pixels on both sides of a coordinate, its distance from the lower one, and whether it is inside.

    Coordinates up to one pixel outside take the value of the border; the value at others is zero.
    """
    inside = (position >= -1) & (position <= size)
    position = position.clamp(0, size - 1)
    low = position.long()
    return low, (low + 1).clamp(max=size - 1), position - low, inside


def _interpolate(features: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Interpolate bilinearly at the grid of y and x: (C, H, W), (Y,), (X,) -> (C, Y, X)."""
    y_low, y_high, y_fraction, y_inside = _neighbors(y, features.shape[1])
    x_low, x_high, x_fraction, x_inside = _neighbors(x, features.shape[2])
    upper, lower = features[:, y_low], features[:, y_high]
    y_fraction = y_fraction[:, None]
    values = (
        (1 - y_fraction) * (1 - x_fraction) * upper[:, :, x_low]
        + (1 - y_fraction) * x_fraction * upper[:, :, x_high]
        + y_fraction * (1 - x_fraction) * lower[:, :, x_low]
        + y_fraction * x_fraction * lower[:, :, x_high]
    )
    return torch.where(y_inside[:, None] & x_inside, values, torch.zeros_like(values))
