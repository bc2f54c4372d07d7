"""Pieces of tensors: all elements, each once, corresponding, in place."""

import pytest
import torch

from surge_mm.ops import chunking


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(chunking, 'CHUNK', 7)


@pytest.mark.parametrize(
    'layout',
    [
        lambda x: x,
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x[::2],
        lambda x: x.to(memory_format=torch.channels_last)[1::2],
        lambda x: x[..., 1:],
        lambda x: x.transpose(0, 3),
        lambda x: x[0, 0, 0],
        lambda x: x[:0],
    ],
    ids=['contiguous', 'channels_last', 'every 2nd', 'every 2nd, last', 'cut', 'turned', '1d', '0'],
)
def test_each_element_is_met_once_and_written_in_place(layout):
    torch.manual_seed(0)
    x, y = torch.randn(2, 5, 3, 4, 6)
    x, y = layout(x), layout(y)
    expected = x + y
    pieces = list(chunking.in_chunks(x, y))
    for a, b in pieces:
        a.add_(b)
    assert torch.equal(x, expected)
    assert sum(a.numel() for a, _ in pieces) == expected.numel()


def test_large_tensors_of_one_layout_come_in_small_pieces():
    x = torch.randn(3, 4, 5, 6, device='cpu').to(memory_format=torch.channels_last)
    assert max(piece.numel() for (piece,) in chunking.in_chunks(x)) == 7
    (alone,) = chunking.in_chunks(x[0, 0, 0])
    assert alone[0].numel() == 6


def test_tensors_that_lie_differently_correspond_all_the_same():
    x = torch.randn(3, 4, 5, 6)
    other = x.to(memory_format=torch.channels_last)
    assert all(torch.equal(a, b) for a, b in chunking.in_chunks(x, other))
