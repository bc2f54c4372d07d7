"""Calls of the passes that compute what operators of PyTorch compute, for tensors of a recorded network.

Each function returns None where the pass does not take the tensors.
"""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor

from surge_mm.deploy.capture.recorder import Call, Part
from surge_mm.deploy.cpu.operator_job import AveragePass, ElementwisePass, UpsampledSumPass
from surge_mm.deploy.cpu.passes import layout, shares

X, OUT, OTHER = map(UpsampledSumPass._fields.index, ('x', 'out', 'other'))
"""Fields of the passes with the addresses of tensors."""


def elementwise(source: Part, target: Part, actions: list[tuple[int, Tensor]]) -> Call | None:
    """Return the call that applies actions to each number.

    Args:
        source (Part): The input, with any strides.
        target (Part): The output, without gaps, of at most four dimensions, or the input itself.
        actions (list[tuple[int, Tensor]]): Actions of an :class:`.ElementwisePass`, each with its number: a tensor of
            one element, float32, whose memory the pass reads.
    """
    rows = _rows(source, target)
    if rows is None or not source.dtype == target.dtype == torch.float32:
        return None
    from surge_mm.deploy.cpu.operator_kernels import act_on_parts

    table = torch.tensor([(action, number.data_ptr()) for action, number in actions])
    (outer, x_outer), (height, x_row), (columns, x_column), (numbers, x_number) = rows
    job = ElementwisePass(
        *(0, 0, 0, 0),
        rows=outer * height,
        height=height,
        columns=columns,
        numbers=numbers,
        x_outer=x_outer * 4,
        x_row=x_row * 4,
        x_column=x_column,
        x_number=x_number,
        actions=table.data_ptr(),
        n_actions=len(actions),
    )
    return _call(act_on_parts.address, job, {X: source, OUT: target}, (table, actions))


def upsampled_sum(
    source: Part, other: Part, target: Part, read: Tensor, is_first: bool
) -> Call | None:
    """Return the call that upsamples images and adds others.

    Args:
        source (Part): Images, ``(N, C, h, w)``.
        other (Part): The others, ``(N, C, H, W)``.
        target (Part): The sum, ``(N, C, H, W)``.
        read (Tensor): The index of the pixel of an image that each pixel of the output reads, ``(H, W)``.
        is_first (bool): Whether the images are the first summand.
    """
    if other.size != target.size or not all(map(_is_channels_last, (source, other, target))):
        return None
    from surge_mm.deploy.cpu.operator_kernels import add_upsampled_parts

    images, channels, height, width = target.size
    rows, columns = read[:, 0], read[0] - read[0, 0]
    places = torch.cat([rows, columns]).to(torch.int64) * (channels * 4)
    job = UpsampledSumPass(
        *(0, 0, 0, 0, 0),
        rows=images * height,
        height=height,
        width=width,
        channels=channels,
        image_bytes=prod(source.size[1:]) * 4,
        places=places.data_ptr(),
        x_is_first=is_first,
    )
    tensors = {X: source, OUT: target, OTHER: other}
    return _call(add_upsampled_parts.address, job, tensors, places)


def average(source: Part, target: Part, size: list[int], step: list[int]) -> Call | None:
    """Return the call of an average pool without padding, whose last windows may be cut off by the border.

    Args:
        source (Part): Images, ``(N, C, H, W)``.
        target (Part): The output, ``(N, C, H', W')``.
        size (list[int]): Height and width of the window.
        step (list[int]): Its vertical and horizontal stride.
    """
    if not (_is_channels_last(source) and _is_channels_last(target)):
        return None
    from surge_mm.deploy.cpu.operator_kernels import average_parts

    _, channels, height, width = source.size
    images, _, out_height, out_width = target.size
    job = AveragePass(
        *(0, 0, 0, 0),
        rows=images * out_height,
        height=height,
        width=width,
        channels=channels,
        out_height=out_height,
        out_width=out_width,
        pool_height=size[0],
        pool_width=size[1],
        pool_step_y=step[0],
        pool_step_x=step[1],
    )
    return _call(average_parts.address, job, {X: source, OUT: target}, None)


def _rows(source: Part, target: Part) -> list[tuple[int, int]] | None:
    """Return four pairs of a size and a stride of the source, in the order of the memory of the target."""
    axes = [axis for axis, size in enumerate(target.size) if size > 1]
    axes.sort(key=lambda axis: -target.stride[axis])
    numbers = 1
    for axis in reversed(axes):
        if target.stride[axis] != numbers:
            return None
        numbers *= target.size[axis]
    if len(axes) > 4 or 0 in target.size:
        return None
    found = [(1, 0)] * (4 - len(axes))
    found += [(target.size[axis], source.stride[axis]) for axis in axes]
    (columns, step), (count, unit) = found[2:]
    if step == count * unit:  # a row of one column
        found[2:] = [(1, 0), (columns * count, unit)]
    return found


def _is_channels_last(part: Part) -> bool:
    if part.dtype != torch.float32 or len(part.size) != 4 or 0 in part.size:
        return False
    images, channels, rows, columns = part.size
    _, strides = layout(images, channels, rows, columns)
    pairs = zip(part.size, part.stride, strides, strict=True)
    return all(size == 1 or found == expected for size, found, expected in pairs)


def _call(function: int, job: Any, tensors: dict[int, Part], owner: object) -> Call:
    """Return the call of a pass, whose parts and addresses of tensors are set here.

    Args:
        function (int): Address of the C function.
        job (tuple[int, ...]): The pass.
        tensors (dict[int, Part]): Tensors by the index of the field that has the address.
        owner (object): Holder of the other memory that the pass has addresses of.
    """
    numbers = max(prod(part.size) for part in tensors.values())
    threads, parts = shares(job.rows, numbers, torch.get_num_threads())
    pointers = [(field, part.block, part.offset * 4) for field, part in tensors.items()]
    return Call(function, threads, tuple(job._replace(parts=parts)), pointers, owner)
