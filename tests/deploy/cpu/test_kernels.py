"""Cases of the compiled loops that the layers of test_packed_layers.py do not reach."""

import pytest
import torch

from surge_mm import SurgeConv2d
from surge_mm.deploy import PackedConv2d
from surge_mm.deploy.cpu import plan

pytest.importorskip('numba')
from surge_mm.deploy.cpu.codegen import vectors  # noqa: E402  needs Numba


@torch.no_grad()
@pytest.mark.parametrize('count', [1, 2, 5])
@pytest.mark.parametrize(('channels', 'filters'), [(64, 48), (130, 20), (32, 17), (20, 32)])
def test_an_image_of_more_tiles_than_are_read_at_once(channels, filters, count, monkeypatch):
    monkeypatch.setattr(torch, 'get_num_threads', lambda: count)
    monkeypatch.setattr(plan, 'WORTH_THREADS', 0)
    layer = SurgeConv2d(channels, filters, 3, padding=1).eval()
    x = torch.randn(2, channels, 31, 29)
    assert 3 * 32 * vectors.PIXELS < 31 * 29
    assert torch.equal(PackedConv2d(layer)(x), layer(x))


@torch.no_grad()
@pytest.mark.parametrize('kernel', [1, 3, (3, 5), (5, 3)])
@pytest.mark.parametrize('sign', [1.0, -1.0])
@pytest.mark.parametrize('channels', [32, 192])
def test_sums_are_right_where_every_bit_differs_or_none(channels, kernel, sign):
    layer = SurgeConv2d(channels, 17, kernel, bias=False, weight={'type': 'Sign'}).eval()
    layer.weight.fill_(-0.5)
    out = PackedConv2d(layer)(torch.full((1, channels, 9, 8), sign))
    assert (out == -sign * layer.weight[0].numel()).all()


@torch.no_grad()
@pytest.mark.parametrize('size', [(1, 1), (1, 6), (2, 3), (3, 5)])
def test_an_image_smaller_than_a_tile(size):
    layer, x = SurgeConv2d(64, 40, 3, padding=1).eval(), torch.randn(3, 64, *size)
    assert torch.equal(PackedConv2d(layer)(x), layer(x))
