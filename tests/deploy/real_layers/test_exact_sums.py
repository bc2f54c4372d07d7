"""Sums of bytes, against integer arithmetic."""

import platform

import pytest
import torch
from helpers.byte_sums import (
    CASES,
    compare_with_onednn,
    extreme_bytes,
    integer_sums,
    run_on_lesser_cpu,
)
from helpers.forkserver import FORKSERVER

from surge_mm.deploy.real_layers import exact_sums
from surge_mm.ops import Convolution

OF_X86 = pytest.mark.skipif(
    platform.machine() not in ('x86_64', 'AMD64'), reason='instructions of x86'
)


@pytest.mark.parametrize('case', CASES, ids=str)
def test_sums_of_extreme_bytes_are_exact_in_float64(case):
    _, _, _, stride, groups, _ = case
    for q, weight in extreme_bytes(case):
        convolution = Convolution(stride=(stride, stride), groups=groups)
        found = exact_sums.float64_sums(weight, convolution)(q)
        assert torch.equal(found, integer_sums(q, weight, stride, groups).float())


@OF_X86
@pytest.mark.parametrize('case', CASES, ids=str)
def test_sums_of_extreme_bytes_are_exact_in_onednn(case):
    assert exact_sums.onednn_is_exact()
    compare_with_onednn(case)


@pytest.mark.parametrize(('channels', 'kernel', 'stride', 'width'), [(8, 2, 2, 3), (64, 3, 3, 5)])
def test_sums_of_one_column_are_exact_where_the_stride_is_above_1(channels, kernel, stride, width):
    torch.manual_seed(0)
    q = torch.randint(0, 256, (1, channels, 23, width), dtype=torch.uint8)
    q = q.contiguous(memory_format=torch.channels_last)
    weight = torch.randint(-63, 64, (32, channels, kernel, kernel), dtype=torch.int8)
    convolution = Convolution(stride=(stride, stride))
    found = exact_sums.onednn_sums(weight, convolution, tuple(q.shape))(q)
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


@pytest.mark.parametrize(
    ('operators', 'reason'),
    [
        (lambda *_: lambda q: torch.zeros(1, 16, 2, 2), 'its sums are not exact'),
        (lambda *_: torch.ops.onednn.no_such_operator, 'no_such_operator'),
    ],
    ids=['not exact', 'missing'],
)
def test_operators_that_are_missing_or_not_exact_are_not_used_and_it_is_logged_once(
    operators, reason, monkeypatch
):
    said = []
    monkeypatch.setattr(exact_sums, 'log', said.append)
    monkeypatch.setattr(exact_sums, 'onednn_sums', operators)
    exact_sums.onednn_is_exact.cache_clear()
    try:
        assert not exact_sums.onednn_is_exact() and not exact_sums.onednn_is_exact()
    finally:
        exact_sums.onednn_is_exact.cache_clear()
    assert len(said) == 1 and 'the operators of oneDNN cannot be used' in said[0]
    assert reason in said[0]
