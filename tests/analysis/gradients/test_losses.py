"""The losses of a training step that leaves no trace."""

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import nn
from torch.utils.checkpoint import checkpoint

from surge_mm import SurgeConv2d
from surge_mm.analysis.gradients.losses import losses_of_step


class Classifier(BaseModel):
    def __init__(self, run=lambda layers, x: layers(x)):
        super().__init__()
        convs = [SurgeConv2d(3, 3, 3, padding=1) for _ in range(2)]
        self.layers = nn.Sequential(*convs, nn.BatchNorm2d(3), nn.Dropout(0.5))
        self.run = run

    def forward(self, images, labels, mode='loss'):
        return {'loss': F.cross_entropy(self.run(self.layers, images).mean((2, 3)), labels)}


def batch():
    return [torch.randn(4, 3, 8, 8), torch.arange(4) % 3]


def generators():
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()


def test_the_loss_is_that_of_the_step_and_buffers_and_generators_stay():
    model, data = Classifier().train(), batch()
    buffers, before = [buffer.clone() for buffer in model.buffers()], generators()
    with losses_of_step(model, data) as (loss,):
        gradient = torch.autograd.grad(loss, model.layers[0].weight)[0]
    assert generators() == before
    assert all(torch.equal(one, kept) for one, kept in zip(model.buffers(), buffers, strict=True))
    expected = model(*data)['loss']  # the same draw of dropout
    assert torch.equal(loss, expected)
    expected.backward()
    assert torch.equal(gradient, model.layers[0].weight.grad)


def test_a_compiled_model_runs_uncompiled():
    def fail(*_):
        raise AssertionError('was compiled')

    compiled = torch.compile(lambda layers, x: layers(x), backend=fail)
    with losses_of_step(Classifier(compiled).train(), batch()) as losses:
        assert losses[0].isfinite()


class OwnStep(Classifier):
    def train_step(self, data, optim_wrapper):
        optim_wrapper.backward(self(*data)['loss'])


class TwoOptimizers(Classifier):
    def train_step(self, data, optim_wrapper):
        optim_wrapper['one'].update_params(self(*data)['loss'])


def again(layers, x):
    return checkpoint(layers, x.requires_grad_(), use_reentrant=True)


@pytest.mark.parametrize(
    'model, message',
    [
        (lambda: Classifier(again), 'layers.0 is hidden .* use_reentrant=True'),
        (OwnStep, 'the model calls backward of the optimizer wrapper'),
        (TwoOptimizers, 'the model has several optimizers'),
    ],
    ids=['reentrant checkpoint', 'own step', 'two optimizers'],
)
def test_a_step_whose_losses_cannot_be_taken_is_an_error_and_the_layers_have_no_hook_left(
    model, message
):
    built = model().train()
    with pytest.raises(ValueError, match=message), losses_of_step(built, batch()):
        pass
    assert not built.layers[0]._forward_pre_hooks
