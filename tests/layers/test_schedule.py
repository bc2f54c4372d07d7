import pytest
import torch
from torch import nn

import surge_mm
from surge_mm import SurgeConv2d, SurgeLinear
from surge_mm.layers import BinaryActivation, BinaryEmbedding


def network():
    torch.manual_seed(0)
    conv = SurgeConv2d(3, 8, 3, activation={'type': 'EDE'}, weight={'type': 'ReCU'})
    plain = SurgeConv2d(8, 8, 3)
    return nn.Sequential(conv, plain, nn.Flatten(), SurgeLinear(8, 4, activation={'type': 'ReSTE'}))


def gradient(model):
    model.zero_grad()
    x = torch.linspace(-2, 2, 75).reshape(1, 3, 5, 5)
    model(x).square().sum().backward()
    return model[0].weight.grad.clone()


@pytest.mark.parametrize('wrap', [nn.Identity, nn.Sequential])
def test_set_progress_reaches_all_scheduled_binarizers_of_a_wrapped_model(wrap):
    model, other = network(), network()
    wrapped = model if wrap is nn.Identity else wrap(model)
    seen = []
    for progress in (0.0, 0.5, 1.0):
        surge_mm.set_progress(wrapped, progress)
        for binarizer in (other[0].activation, other[0].weight_binarizer, other[3].activation):
            binarizer.follow(progress)
        seen.append(gradient(model))
        assert torch.equal(seen[-1], gradient(other))
    assert not torch.equal(seen[0], seen[2])


def test_set_progress_accepts_models_without_a_schedule():
    surge_mm.set_progress(nn.Sequential(nn.Linear(2, 2), SurgeLinear(2, 2)), 0.5)


@pytest.mark.parametrize('progress', [-0.1, 1.01, float('nan')])
def test_set_progress_takes_0_to_1_whatever_the_model(progress):
    with pytest.raises(ValueError, match='progress=.* must be in 0 to 1'):
        surge_mm.set_progress(nn.Linear(2, 2), progress)


def test_the_error_of_a_missing_schedule_names_the_helper():
    with pytest.raises(RuntimeError, match=r'surge_mm.set_progress\(model, progress\)'):
        gradient(network())


def test_set_progress_reaches_embeddings_and_the_products_of_attention():
    embedding = BinaryEmbedding(6, 4, {'type': 'AdaBin'})
    binary = BinaryActivation({'type': 'EDE'})
    surge_mm.set_progress(nn.ModuleList([embedding, binary]), 0.5)
    embedding(torch.arange(3)).sum().backward()
    used = embedding.weight.grad.abs().sum(1) > 0
    assert used.tolist() == [True] * 3 + [False] * 3
    x = torch.randn(5, requires_grad=True)
    binary(x).sum().backward()
    t = 10**-0.5  # between 1e-2 and 10
    torch.testing.assert_close(x.grad, 1 - torch.tanh(t * x.detach()) ** 2)  # k t = max(1, t)
