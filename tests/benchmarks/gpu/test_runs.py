"""The training loop of the GPU benchmarks, on the CPU."""

import math

import pytest
import torch
from arms import ARMS
from runs import Epoch, Run, Setting, learning_rates


@pytest.fixture
def run():
    images = torch.randint(0, 256, (18, 3, 32, 32), dtype=torch.uint8)

    def build(optimizer='SGD', **settings):
        epoch = Epoch(images, torch.arange(18) % 10, seed=0, batch=4)
        epoch.begin(0)
        setting = Setting('cpu', graph=False)
        rates = learning_rates(8, 1)
        arm = ARMS['SURGE']._replace(optimizer=optimizer, **settings)
        run = Run(arm, epoch, rates, setting)
        run.prepare()
        return run

    return build


@pytest.mark.parametrize('optimizer', ['SGD', 'AdamW'])
def test_a_stopped_run_takes_the_steps_that_it_would_have_taken(run, optimizer):
    whole, stopped, resumed = run(optimizer), run(optimizer), run(optimizer)
    for _ in range(3):
        whole.step()
    stopped.step()
    resumed.load(stopped.state())
    for _ in range(2):
        resumed.step()
    expected, got = whole.state(), resumed.state()
    assert expected['done'] == got['done'] == 3
    for part in ('model', 'optimizer'):
        assert all(torch.equal(got[part][name], value) for name, value in expected[part].items())


def test_a_clipped_run_takes_the_step_of_the_scaled_gradient(run):
    clip = 0.01
    own, clipped = run(), run(clip=clip)
    for one in (own, clipped):
        one.optimizer.zero_grad = lambda: None
        one.step()
    grads = [[p.grad for p in one.model.parameters()] for one in (own, clipped)]
    norm = math.sqrt(sum(g.square().sum().item() for g in grads[0]))
    assert norm > clip
    for whole, scaled in zip(*grads, strict=True):
        torch.testing.assert_close(scaled, whole * (clip / norm), rtol=1e-4, atol=1e-7)


def test_an_epoch_holds_full_batches_of_different_images_drawn_by_its_number(run):
    epoch = run().epoch
    first = epoch.images.clone()
    epoch.begin(1)
    assert epoch.images.shape == (4, 4, 3, 32, 32) and not torch.equal(epoch.images, first)
    epoch.begin(0)
    assert torch.equal(epoch.images, first)


def test_learning_rates_rise_and_fall_to_zero():
    rates = learning_rates(100, 10)
    assert rates[0] == pytest.approx(0.01) and rates.argmax() == 10
    assert rates[10] == pytest.approx(1) and rates[-1] < 1e-3


def test_the_growth_at_the_stem_is_that_of_the_rule_of_eta_and_leaves_the_run_as_it_was(run):
    probed = run()
    before = probed.state()
    assert math.log(probed.stem_growth()) == pytest.approx(0.35 * 0.1 * 18, rel=0.4)
    after = probed.state()
    assert all(torch.equal(after['model'][name], value) for name, value in before['model'].items())
    assert all(layer.scale is not None for layer in probed.layers)
