"""Sums of bytes, against integer arithmetic."""

import pytest
import torch
from helpers.byte_sums import CASES, extreme_bytes, integer_sums

from surge_mm.deploy.real_layers import exact_sums
from surge_mm.ops import Convolution


@pytest.mark.parametrize('case', CASES, ids=str)
def test_sums_of_extreme_bytes_are_exact_in_float64(case):
    _, _, _, stride, groups, _ = case
    for q, weight in extreme_bytes(case):
        convolution = Convolution(stride=(stride, stride), groups=groups)
        found = exact_sums.float64_sums(weight, convolution)(q)
        assert torch.equal(found, integer_sums(q, weight, stride, groups).float())


def test_float64_where_onednn_cannot_be_used_is_logged_once(monkeypatch):
    said = []
    monkeypatch.setattr(exact_sums, 'log', said.append)
    monkeypatch.setattr(exact_sums, 'what_fails_in_onednn', lambda: 'its sums are not exact')
    exact_sums.onednn_is_exact.cache_clear()
    try:
        assert not exact_sums.onednn_is_exact() and not exact_sums.onednn_is_exact()
    finally:
        exact_sums.onednn_is_exact.cache_clear()
    assert len(said) == 1
    assert 'the operators of oneDNN cannot be used (its sums are not exact)' in said[0]
