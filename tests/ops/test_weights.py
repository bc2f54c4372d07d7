import pytest
import torch
from formula import binary_weight

from surge_mm.ops import WeightBinarizer


@pytest.mark.parametrize('name', ['Sign', 'ScaledSign'])
@pytest.mark.parametrize('shape', [(6, 3, 3, 3), (5, 7)])
def test_value_and_gradient_equal_the_formula(name, shape):
    w = (torch.randn(shape, dtype=torch.float64) * 1.5).requires_grad_()
    grad_q = torch.randn(shape, dtype=torch.float64)
    expected = binary_weight(w, name)
    (expected_grad,) = torch.autograd.grad(expected, w, grad_q)
    binarizer = WeightBinarizer.build({'type': name})
    torch.testing.assert_close(binarizer(w.detach()), expected.detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(
        binarizer.gradient(w.detach(), grad_q), expected_grad, rtol=0, atol=1e-12
    )


def test_scaled_sign_has_one_magnitude_per_filter():
    q = WeightBinarizer.build({'type': 'ScaledSign'})(torch.randn(4, 3, 3, 3))
    assert all(len(filter.abs().unique()) == 1 for filter in q)
