import pytest
import torch
import torch.nn.functional as F
from helpers.formula import dual_path

from surge_mm.layers import SurgeLinear


@pytest.mark.parametrize('shape', [(7, 5), (2, 3, 5), (2, 3, 4, 5), (5,)])
@pytest.mark.parametrize('bias', [True, False])
def test_gradients_match_autograd_of_the_formula(shape, bias):
    layer = SurgeLinear(
        5, 6, bias=bias, compensator={'scale': 0.3, 'init': 'kaiming'}, dtype=torch.float64
    )
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    leaves = [t.detach().clone().requires_grad_() for t in (x, layer.weight, layer.aux_weight)]
    expected = dual_path(F.linear, *leaves, 0.3, 'ApproxSign', 'ScaledSign')
    g = torch.randn_like(expected)
    expected.backward(g)
    out = layer(x)
    out.backward(g)
    if bias:
        torch.testing.assert_close(out - layer.bias, expected, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(layer.bias.grad, g.reshape(-1, 6).sum(0))
    for mine, leaf in zip((x, layer.weight, layer.aux_weight), leaves, strict=True):
        torch.testing.assert_close(mine.grad, leaf.grad, rtol=1e-10, atol=1e-10)
