"""The training loop of the GPU benchmarks, on the CPU, and the tests of its table."""

import gpu_runs
import numpy as np
import pytest
import torch
from gpu_learning_table import interval, sign_flip_p
from scipy import stats


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setattr(gpu_runs, 'BATCH', 4)
    images = torch.randint(0, 256, (18, 3, 32, 32), dtype=torch.uint8)

    def build():
        epoch = gpu_runs.Epoch(images, torch.arange(18) % 10, seed=0)
        epoch.begin(0)
        setting = gpu_runs.Setting('cpu', graph=False)
        rates = gpu_runs.learning_rates(8, 1)
        run = gpu_runs.Run('ResNet-20, PReLU', 'SURGE', epoch, rates, setting)
        run.prepare()
        return run

    return build


def test_a_stopped_run_takes_the_steps_that_it_would_have_taken(run):
    whole, stopped, resumed = run(), run(), run()
    for _ in range(3):
        whole.step()
    stopped.step()
    resumed.load(stopped.state())
    for _ in range(2):
        resumed.step()
    expected, got = whole.state(), resumed.state()
    assert expected['done'] == got['done'] == 3
    for part in ('model', 'momenta'):
        assert all(torch.equal(got[part][name], value) for name, value in expected[part].items())


def test_an_epoch_holds_full_batches_of_different_images_drawn_by_its_number(run):
    epoch = run().epoch
    first = epoch.images.clone()
    epoch.begin(1)
    assert epoch.images.shape == (4, 4, 3, 32, 32) and not torch.equal(epoch.images, first)
    epoch.begin(0)
    assert torch.equal(epoch.images, first)


def test_learning_rates_rise_and_fall_to_zero():
    rates = gpu_runs.learning_rates(100, 10)
    assert rates[0] == pytest.approx(0.001) and rates.argmax() == 10
    assert rates[10] == pytest.approx(0.1) and rates[-1] < 1e-4


def test_sign_flip_test_counts_the_assignments_as_far_from_zero():
    assert sign_flip_p(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])) == 2 / 64
    assert sign_flip_p(np.array([1.0, -1.0])) == 1
    assert sign_flip_p(np.array([3.0, 1.0, -1.0])) == 6 / 8


def test_interval_is_that_of_the_paired_t_test():
    one, other = np.array([1.0, 2.5, 3.0, 4.0]), np.array([1.5, 2.0, 4.0, 5.0])
    expected = stats.ttest_rel(other, one).confidence_interval(0.95)
    assert interval(other - one) == pytest.approx((expected.low, expected.high))
