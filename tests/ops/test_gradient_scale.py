"""Norms and sums of gradients, against float64."""

import pytest
import torch

from surge_mm.ops import chunking
from surge_mm.ops.gradient_scale import add_scaled, norm

NARROW = [torch.bfloat16, torch.float16, torch.float32]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(chunking, 'CHUNK', 64)


@pytest.mark.parametrize('dtype', NARROW, ids=str)
@pytest.mark.parametrize('shape', [(2, 5, 7, 9), (3,), (0, 4)], ids=str)
def test_a_norm_is_accumulated_in_float32_over_all_pieces(shape, dtype):
    torch.manual_seed(0)
    x = (1000 * torch.randn(shape)).to(dtype)  # whose square float16 does not hold
    found = norm(x)
    assert found.dtype == torch.float32 and found.dim() == 0
    torch.testing.assert_close(found.double(), x.double().norm())


@pytest.mark.parametrize('dtype', NARROW, ids=str)
@pytest.mark.parametrize('lam', [0.3, [[[0.5]], [[-2.0]], [[0.0]]]], ids=['number', 'channels'])
def test_a_scaled_gradient_of_a_narrower_dtype_is_added_in_that_of_the_other(lam, dtype):
    torch.manual_seed(0)
    g_b, g_a = torch.randn(2, 3, 8, 9), torch.randn(2, 3, 8, 9).to(dtype)
    lam = torch.tensor(lam)
    expected = g_b.double() + lam.double() * g_a.double()
    found = add_scaled(g_b, lam, g_a)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)
