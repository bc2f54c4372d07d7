"""Sums of bytes by integer arithmetic, and a process that compares convolutions of bytes with them on a lesser CPU."""

import os

import torch
import torch.nn.functional as F

from surge_mm.ops import Convolution
from surge_mm.ops.byte_convolution import byte_convolution, what_fails_in_onednn

CASES = [
    # input channels, filters, kernel, stride, groups, height
    (3, 16, 7, 2, 1, 19),
    (64, 20, 1, 1, 1, 9),
    (256, 36, 3, 1, 1, 7),
    (2048, 16, 3, 1, 1, 5),
    (32, 32, 3, 1, 32, 8),
]


def integer_sums(q, weight, stride, groups):
    """Return the sums of a convolution without padding in int64."""
    windows = F.unfold(q.double(), weight.shape[2:], stride=stride).long()  # exact: a copy
    windows = windows.unflatten(1, (groups, -1))
    filters = weight.long().flatten(1).unflatten(0, (groups, -1))
    sums = torch.einsum('ngkp,gfk->ngfp', windows, filters)
    rows = (q.shape[2] - weight.shape[2]) // stride + 1
    return sums.flatten(1, 2).unflatten(2, (rows, -1))


def extreme_bytes(case):
    """Yield inputs and weights: random ones, and those with the largest sums."""
    channels, filters, kernel, _, groups, size = case
    shape, per_group = (1, channels, size, size), (filters, channels // groups, kernel, kernel)
    generator = torch.Generator().manual_seed(0)
    q = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    yield q, torch.randint(-63, 64, per_group, generator=generator, dtype=torch.int8)
    for value in (63, -63):
        yield torch.full(shape, 255, dtype=torch.uint8), torch.full(per_group, value).to(torch.int8)


def compare_with_onednn(case):
    """Compare oneDNN's sums with those of integers."""
    _, _, _, stride, groups, _ = case
    for q, weight in extreme_bytes(case):
        q = q.contiguous(memory_format=torch.channels_last)
        convolution = Convolution(stride=(stride, stride), groups=groups)
        found = byte_convolution(weight, convolution, tuple(q.shape))(q)
        assert found.dtype == torch.float32
        assert torch.equal(found, integer_sums(q, weight, stride, groups).float()), case


def run_on_lesser_cpu(instructions, file):
    """Compare all cases where oneDNN is restricted to some instructions; write ``exact`` into a file.

    Args:
        instructions (str): value of ONEDNN_MAX_CPU_ISA. oneDNN must not have been used yet.
        file (Path): the file.
    """
    os.environ['ONEDNN_MAX_CPU_ISA'] = instructions
    torch.set_num_threads(1)
    assert not what_fails_in_onednn()
    for case in CASES:
        compare_with_onednn(case)
    # with weights of 8 bits the sums saturate: the restriction is in force
    q = torch.full((1, 64, 3, 3), 255, dtype=torch.uint8).contiguous(
        memory_format=torch.channels_last
    )
    weight = torch.full((16, 64, 3, 3), 127, dtype=torch.int8)
    sums = byte_convolution(weight, Convolution(), tuple(q.shape))(q)
    file.write_text(f'exact, and {sums.max():.0f} of {255 * 127 * 64 * 9} with 8 bits')
