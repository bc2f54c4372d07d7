"""Convolutions in bfloat16."""

import pytest
import torch
from torch import nn

from surge_mm.deploy.real_layers import bfloat16_conv
from surge_mm.deploy.real_layers.bfloat16_conv import BFloat16Conv2d


@pytest.fixture(params=[True, False], ids=['units', 'no units'])
def said(request, monkeypatch):
    """Return the messages to the user on a CPU with units for bfloat16, or without."""
    said = []
    monkeypatch.setattr(bfloat16_conv, 'log', said.append)
    monkeypatch.setattr(bfloat16_conv, 'has_bfloat16_units', lambda: request.param)
    bfloat16_conv._in_bfloat16.cache_clear()
    yield said
    bfloat16_conv._in_bfloat16.cache_clear()
    assert len(said) == (not request.param)
    assert all('this CPU has neither AMX nor AVX512_BF16' in message for message in said)


@torch.no_grad()
def test_the_output_is_that_of_the_rounded_weights(said):
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 24, 3, 2, padding='valid', padding_mode='zeros')
    layer, x = BFloat16Conv2d(conv), torch.randn(2, 16, 9, 9)
    assert layer.weight.dtype == torch.bfloat16 and layer.bias.dtype == torch.float32
    found = [layer(x), layer(x)][1]
    assert torch.equal(layer.float()(x), found)
    conv.weight.copy_(conv.weight.bfloat16())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, conv(x), rtol=0.02, atol=0.02)
    if said:
        torch.testing.assert_close(found, conv(x))
