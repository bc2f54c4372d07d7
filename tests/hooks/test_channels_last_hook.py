from types import SimpleNamespace

import torch

from surge_mm import ChannelsLastHook, SurgeResNet


def gradients(model, x):
    model.zero_grad()
    outputs = model(x)
    outputs[-1].square().mean().backward()
    return outputs, [p.grad.clone() for p in model.parameters()]


def test_activations_lie_channels_last_and_values_and_gradients_stay():
    torch.manual_seed(0)
    model = SurgeResNet(18, base_channels=8).double()
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    before, expected = gradients(model, x)
    parameters = list(model.parameters())
    ChannelsLastHook().before_run(SimpleNamespace(model=model))
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    after, got = gradients(model, x)
    for old, new in zip(before, after, strict=True):
        assert new.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(new, old, rtol=1e-10, atol=1e-10)
    for old, new in zip(expected, got, strict=True):
        torch.testing.assert_close(new, old, rtol=1e-8, atol=1e-10)
