"""Steps and bytes of int8 layers."""

import pytest
import torch

from surge_mm.deploy.real_layers.quantization import Range, best_range, quantize_weight


@pytest.mark.parametrize(
    ('given', 'step', 'zero'),
    [
        (Range(0.0, 2.55), 0.01, 0),
        (Range(-1.0, 1.0), 2 / 255, 128),
        (Range(-1.0, 0.0), 1 / 255, 255),
        (Range(0.0, 0.0), 1.0, 0),
    ],
)
def test_a_range_has_255_steps_and_a_byte_for_zero(given, step, zero):
    inverse, found = given.numbers()
    assert inverse == pytest.approx(1 / step) and found == zero
    assert torch.tensor(inverse).double() == inverse  # a float32


def test_a_rare_large_number_is_clipped():
    values = torch.cat([torch.linspace(0, 1, 300_000), torch.tensor([1.5])])
    found = best_range(values, 0.0, 1.5)
    assert found.low == 0 and 0.98 < found.high < 1.1


def test_the_range_contains_zero():
    assert best_range(torch.full((9,), 2.0), 2.0, 2.0).low == 0.0
    assert best_range(torch.full((9,), -2.0), -2.0, -2.0).high == 0.0


def test_weights_have_seven_bits_and_a_step_per_filter():
    torch.manual_seed(0)
    weight = torch.randn(5, 8, 3, 3) * torch.tensor([1e-3, 1.0, 1e3, 1.0, 0.0]).view(-1, 1, 1, 1)
    q, step = quantize_weight(weight)
    assert q.dtype == torch.int8 and int(q.abs().amax()) == 63
    error = q.double() * step.view(-1, 1, 1, 1) - weight.double()
    relative = error.square().flatten(1).sum(1)[:4] / weight[:4].double().square().flatten(1).sum(1)
    assert float(relative.amax()) < 1e-3
    assert not q[4].any()
