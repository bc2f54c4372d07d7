"""Convolution of bytes, against integer arithmetic."""

import platform

import pytest
import torch
from helpers.byte_sums import CASES, compare_with_onednn, integer_sums, run_on_lesser_cpu
from helpers.forkserver import FORKSERVER

from surge_mm.ops import Convolution
from surge_mm.ops import byte_convolution as module
from surge_mm.ops.byte_convolution import byte_convolution, what_fails_in_onednn

OF_X86 = pytest.mark.skipif(
    platform.machine() not in ('x86_64', 'AMD64'), reason='instructions of x86'
)


@OF_X86
@pytest.mark.parametrize('case', CASES, ids=str)
def test_sums_of_extreme_bytes_are_exact_in_onednn(case):
    assert not what_fails_in_onednn()
    compare_with_onednn(case)


@pytest.mark.parametrize(('channels', 'kernel', 'stride', 'width'), [(8, 2, 2, 3), (64, 3, 3, 5)])
def test_sums_of_one_column_are_exact_where_the_stride_is_above_1(channels, kernel, stride, width):
    torch.manual_seed(0)
    q = torch.randint(0, 256, (1, channels, 23, width), dtype=torch.uint8)
    q = q.contiguous(memory_format=torch.channels_last)
    weight = torch.randint(-63, 64, (32, channels, kernel, kernel), dtype=torch.int8)
    convolution = Convolution(stride=(stride, stride))
    found = byte_convolution(weight, convolution, tuple(q.shape))(q)
    assert torch.equal(found, integer_sums(q, weight, stride, 1).float())


@OF_X86
@pytest.mark.parametrize('instructions', ['AVX2', 'AVX512_CORE'])
def test_sums_are_exact_on_a_cpu_without_vnni(instructions, tmp_path):
    process = FORKSERVER.Process(
        target=run_on_lesser_cpu, args=(instructions, tmp_path / 'outcome')
    )
    process.start()
    process.join()
    assert process.exitcode == 0
    found = (tmp_path / 'outcome').read_text()
    assert found.startswith('exact') and '18653760 of' not in found


@OF_X86
def test_sums_around_a_zero_are_multiplied_by_the_factor():
    torch.manual_seed(0)
    q = torch.randint(0, 256, (2, 32, 9, 9), dtype=torch.uint8)
    weight, factor = torch.randint(-63, 64, (24, 32, 3, 3), dtype=torch.int8), torch.randn(24)
    shape = tuple(q.shape)
    found = byte_convolution(weight, Convolution(), shape, 7, factor)(q)
    sums = integer_sums(q.int() - 7, weight, 1, 1)
    assert torch.equal(found, sums.float() * factor[:, None, None])


@pytest.mark.parametrize(
    ('operators', 'reason'),
    [
        (lambda *_: lambda q: torch.zeros(1, 16, 2, 2), 'its sums are not exact'),
        (lambda *_: torch.ops.onednn.no_such_operator, 'no_such_operator'),
    ],
    ids=['not exact', 'missing'],
)
def test_operators_that_are_missing_or_not_exact_are_found(operators, reason, monkeypatch):
    monkeypatch.setattr(module, 'byte_convolution', operators)
    what_fails_in_onednn.cache_clear()
    try:
        assert reason in what_fails_in_onednn()
    finally:
        what_fails_in_onednn.cache_clear()
