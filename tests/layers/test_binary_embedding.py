import pytest
import torch
from torch.func import functional_call, grad

from surge_mm.layers import BinaryEmbedding


def embedding():
    torch.manual_seed(0)
    return BinaryEmbedding(6, 4, {'type': 'ScaledSign'}).double()


def test_rows_are_signs_times_the_mean_of_the_row_and_the_gradient_is_that_of_the_rows_used():
    layer, ids = embedding(), torch.tensor([[1, 4, 1]])
    out = layer(ids)
    w = layer.weight.detach()
    scale = w.abs().mean(1, keepdim=True)
    torch.testing.assert_close(out.detach(), (torch.where(w < 0, -1.0, 1.0) * scale)[ids])
    g = torch.randn_like(out)
    (gradient,) = torch.autograd.grad(out, layer.weight, g)
    assert gradient[[0, 2, 3, 5]].count_nonzero() == 0
    assert gradient[[1, 4]].count_nonzero() == 8


@pytest.mark.parametrize('name', ['ScaledSign', 'XNOR', 'ReAct', 'BiT'])
def test_rows_and_gradients_are_those_of_the_whole_table_to_the_bit(name):
    torch.manual_seed(0)
    layer = BinaryEmbedding(50, 8, {'type': name})
    ids = torch.randint(50, (3, 7))
    out = layer(ids)
    w, g = layer.weight.detach(), torch.randn_like(out)
    out.backward(g)
    binarizer = layer.weight_binarizer
    assert torch.equal(out, binarizer(w)[ids])
    grad_q = torch.zeros_like(w)
    for row, gradient in zip(ids.flatten(), g.flatten(0, 1), strict=True):
        grad_q[row] += gradient
    torch.testing.assert_close(layer.weight.grad, binarizer.gradient(w, grad_q))


def test_only_the_rows_of_the_batch_are_binarized(monkeypatch):
    layer, sizes = embedding(), []
    binarizer = type(layer.weight_binarizer)
    values = binarizer.two_values

    def counted(self, w):
        sizes.append(len(w))
        return values(self, w)

    monkeypatch.setattr(binarizer, 'two_values', counted)
    layer(torch.tensor([[1, 4, 1]]))
    assert sizes == [2]


def test_a_second_derivative_is_an_error():
    layer, ids = embedding(), torch.tensor([1, 4])

    def loss(w):
        return functional_call(layer, {'weight': w}, (ids,)).square().sum()

    with pytest.raises(RuntimeError, match='no second derivative'):
        grad(lambda w: grad(loss)(w).square().sum())(layer.weight.detach())
