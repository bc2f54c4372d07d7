"""Pooling of regions of interest (RoIs), as ``mmcv._ext`` serves it.

A RoI (n, x1, y1, x2, y2) is cut into ``height x width`` bins on the feature map of image n:

- RoIAlign lays a grid of sample points into each bin, interpolates the map bilinearly at each of
  them, and takes their mean or maximum. torchvision has the mean; the maximum is here.
- RoIPool takes the maximum over the whole pixels that the bin touches. torchvision rounds the RoI
  to pixels first and mmcv does not, so that theirs cannot stand in for it.

The arguments ``output``, ``argmax...`` and ``grad_input`` are filled in place, as mmcv expects.
Half precision is computed in float32.

Source: K. He et al., "Mask R-CNN", 2017 (RoIAlign); R. Girshick, "Fast R-CNN", 2015 (RoIPool).
"""

import torch
import torchvision  # noqa: F401  (defines torch.ops.torchvision)
from torch import Tensor

from surge_mm.compat.mmcv_ops.precision import wide

_EMPTY_BIN = -10000.0  # what mmcv's RoIAlign gives for the maximum over no sample points


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
    """RoIAlign: input (N, C, H, W), rois (R, 5) -> output (R, C, aligned_height, aligned_width).

    ``pool_mode`` 1 is the mean. 0 is the maximum, and then ``argmax_y`` and ``argmax_x`` (shaped
    like the output) receive the coordinates of the winning sample point, -1 where there is none.
    """
    size = (aligned_height, aligned_width)
    if pool_mode == 1:
        pooled = torch.ops.torchvision.roi_align(
            wide(input), wide(rois), spatial_scale, *size, sampling_ratio, aligned
        )
        output.copy_(pooled)
        return

    features, rois = wide(input), wide(rois)
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
    """Gradient of RoIAlign: grad_output (R, C, h, w) -> grad_input (N, C, H, W)."""
    n, c, height, width = grad_input.shape
    grad, rois = wide(grad_output), wide(rois)
    if pool_mode == 1:
        size = (aligned_height, aligned_width, n, c, height, width)
        grad_input.copy_(
            torch.ops.torchvision._roi_align_backward(
                grad, rois, spatial_scale, *size, sampling_ratio, aligned
            )
        )
        return

    plane = _plane_of(rois, c, height * width)
    y_low, y_high, y_fraction, y_inside = _neighbours(wide(argmax_y), height)
    x_low, x_high, x_fraction, x_inside = _neighbours(wide(argmax_x), width)
    has_winner = y_inside & x_inside & (argmax_y != -1)
    grad = torch.where(has_winner, grad, torch.zeros_like(grad))
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
    """RoIPool: input (N, C, H, W), rois (R, 5) -> output (R, C, pooled_height, pooled_width).

    Bin i of a RoI that spans [a, b) along an axis covers the pixels from ``floor(a + i s)`` up to,
    and without, ``ceil(a + (i + 1) s)``, where ``s = (b - a) / bins``; b includes the last pixel.
    ``argmax`` (int32, shaped like the output) receives ``y W + x`` of the winner. A bin without
    pixels gives 0 and argmax -1, and so does a RoI whose sides are not positive.
    """
    features, rois = wide(input), wide(rois)
    height, width = features.shape[2:]
    start, stop = rois[:, 1:3] * spatial_scale, (rois[:, 3:5] + 1) * spatial_scale
    sound = (stop > start).all(dim=1).tolist()
    x_bins = _pixel_bins(start[:, 0], stop[:, 0], pooled_width, width)
    y_bins = _pixel_bins(start[:, 1], stop[:, 1], pooled_height, height)
    output.zero_()
    argmax.fill_(-1)
    for r, image in enumerate(rois[:, 0].long().tolist()):
        if not sound[r]:
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
    """Gradient of RoIPool: each bin's gradient goes to the pixel that won it."""
    _, c, height, width = grad_input.shape
    grad = wide(grad_output)
    grad = torch.where(argmax >= 0, grad, torch.zeros_like(grad))
    index = _plane_of(rois, c, height * width) + argmax.clamp(min=0)
    total = torch.zeros(grad_input.numel(), dtype=grad.dtype, device=grad.device)
    total.index_add_(0, index.flatten(), grad.flatten())
    grad_input.copy_(total.view_as(grad_input))


def _plane_of(rois: Tensor, channels: int, pixels: int) -> Tensor:
    """Where each RoI's feature planes begin in the flattened input: (R, C, 1, 1)."""
    channel = torch.arange(channels, device=rois.device)
    return ((rois[:, :1].long() * channels + channel) * pixels)[:, :, None, None]


def _pixel_bins(start: Tensor, stop: Tensor, bins: int, size: int) -> list[list[list[int]]]:
    """First and one-past-last pixel of each bin along one axis, for each RoI: R x bins x 2."""
    step = ((stop - start) / bins)[:, None]
    edge = torch.arange(bins + 1, device=start.device, dtype=start.dtype) * step + start[:, None]
    first = edge[:, :-1].floor().clamp(0, size)
    last = edge[:, 1:].ceil().clamp(0, size)
    return torch.stack([first, torch.maximum(first, last)], dim=2).long().tolist()


def _sample_points(
    start: Tensor, stop: Tensor, bins: int, sampling_ratio: int, aligned: bool
) -> tuple[Tensor, int]:
    """Coordinates of a RoI's sample points along one axis, (bins * per_bin,), and per_bin.

    With ``sampling_ratio`` 0, a bin gets about one sample point per pixel.
    """
    length = stop - start if aligned else (stop - start).clamp(min=1)
    per_bin = sampling_ratio if sampling_ratio > 0 else int((length / bins).ceil())
    bin_size = length / bins
    bin_start = start + torch.arange(bins, device=start.device) * bin_size
    centre = torch.arange(per_bin, device=start.device) + 0.5
    if per_bin > 0:
        centre = centre.to(start) * bin_size / per_bin
    return (bin_start[:, None] + centre).flatten(), per_bin


def _neighbours(position: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The pixels on either side of a coordinate, how far it is past the lower, and if it counts.

    Coordinates up to one pixel outside take the border's value, farther ones count as zero.
    """
    inside = (position >= -1) & (position <= size)
    position = position.clamp(0, size - 1)
    low = position.long()
    return low, (low + 1).clamp(max=size - 1), position - low, inside


def _interpolate(features: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Bilinear values at the grid of y and x: (C, H, W), (Y,), (X,) -> (C, Y, X)."""
    y_low, y_high, y_fraction, y_inside = _neighbours(y, features.shape[1])
    x_low, x_high, x_fraction, x_inside = _neighbours(x, features.shape[2])
    upper, lower = features[:, y_low], features[:, y_high]
    y_fraction = y_fraction[:, None]
    values = (
        (1 - y_fraction) * (1 - x_fraction) * upper[:, :, x_low]
        + (1 - y_fraction) * x_fraction * upper[:, :, x_high]
        + y_fraction * (1 - x_fraction) * lower[:, :, x_low]
        + y_fraction * x_fraction * lower[:, :, x_high]
    )
    return torch.where(y_inside[:, None] & x_inside, values, torch.zeros_like(values))
