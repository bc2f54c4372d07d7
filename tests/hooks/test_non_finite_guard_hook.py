"""Values that are not finite cost a step, not the run, and the log names their origin."""

import pytest
import torch
from helpers.faults import BAD, KINDS, Fault, Inject, not_finite
from helpers.tiny_run import BATCHES, tiny_runner
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from surge_mm import NonFiniteGuardHook
from surge_mm.utils.errors import UsageError


def train(tmp_path, fault, monkeypatch=None, more_hooks=(), **kwargs):
    """Return the runner and the output of the guard."""
    said = []
    if monkeypatch:
        monkeypatch.setattr('surge_mm.hooks.non_finite_guard_hook.warn', said.append)
    inject = Inject(fault)
    runner = tiny_runner(tmp_path, length=2, hooks=[inject, *more_hooks], **kwargs)
    runner.train()
    assert inject.happened
    return runner, said


@pytest.mark.parametrize('value', BAD)
@pytest.mark.parametrize('layer', ['stem', 'conv', 'norm', 'head'])
@pytest.mark.parametrize('kind', KINDS)
def test_weights_and_statistics_stay_finite_and_the_first_layer_is_named(
    kind, layer, value, tmp_path, monkeypatch
):
    runner, said = train(tmp_path, Fault(kind, layer, 4, value), monkeypatch)
    assert not not_finite(runner.model, runner.optim_wrapper.optimizer)
    named = {
        'activation': f'the output of {layer}',
        'gradient': f'the gradient of {layer}.',
        'loss': 'the loss loss',
    }[kind]
    assert said and f'iteration 5 is not finite, first in {named}' in said[0]
    hub = MessageHub.get_current_instance()
    assert hub.get_scalar('train/guard_bad_steps').current() == len(said)


def test_the_model_is_as_before_the_step_and_training_goes_on(tmp_path):
    seen = []

    class Keep(Inject):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            seen.append({k: v.clone() for k, v in runner.model.state_dict().items()})

    hook = Keep(Fault('loss', '', 4, float('nan')))
    runner = tiny_runner(tmp_path, length=2, hooks=[hook])
    runner.train()
    weights = [name for name, _ in runner.model.named_parameters()]
    assert all(torch.equal(seen[3][name], seen[4][name]) for name in weights)
    assert not any(torch.equal(seen[4][name], seen[5][name]) for name in weights)


class ReadsOfValues(TorchDispatchMode):
    """Counts the values that the host reads, each a synchronization on a GPU."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_a_finite_step_is_checked_by_two_reads(tmp_path, monkeypatch):
    reads = []

    def counted(method):
        def call(*args, **kwargs):
            with ReadsOfValues() as mode:
                answer = method(*args, **kwargs)
            reads.append(mode.count)
            return answer

        return call

    for name in ('_check_gradients', 'after_train_iter'):
        monkeypatch.setattr(NonFiniteGuardHook, name, counted(getattr(NonFiniteGuardHook, name)))
    tiny_runner(tmp_path, length=1).train()
    assert len(reads) == 2 * BATCHES and set(reads) == {1}


def test_a_model_without_buffers_is_guarded(tmp_path):
    runner = tiny_runner(tmp_path, length=2, hooks=[Inject(Fault('loss', '', 4, float('nan')))])
    runner.model.norm = torch.nn.GroupNorm(2, 8)
    del runner.model.ballast
    runner.train()
    assert not list(runner.model.state_dict().keys() - dict(runner.model.named_parameters()).keys())
    assert not not_finite(runner.model, runner.optim_wrapper.optimizer)


def test_without_the_guard_a_fault_spoils_the_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(NonFiniteGuardHook, 'before_train', lambda self, runner: None)
    monkeypatch.setattr(NonFiniteGuardHook, 'before_train_iter', lambda self, *_, **__: None)
    monkeypatch.setattr(NonFiniteGuardHook, 'after_train_iter', lambda self, *_, **__: None)
    runner, _ = train(tmp_path, Fault('loss', '', 4, float('nan')))
    assert not_finite(runner.model, runner.optim_wrapper.optimizer)


class Clip(Hook):
    def __init__(self, function, **arguments):
        self.function, self.arguments = function, arguments

    def before_train(self, runner):
        runner.optim_wrapper.grad_name = 'grad_norm'
        runner.optim_wrapper.clip_func = self.function
        runner.optim_wrapper.clip_grad_kwargs = self.arguments


@pytest.mark.parametrize('by_norm', [True, False])
def test_clipping_by_norm_hides_the_origin_of_a_gradient(by_norm, tmp_path, monkeypatch):
    clip = (
        Clip(nn.utils.clip_grad_norm_, max_norm=1.0)
        if by_norm
        else Clip(nn.utils.clip_grad_value_, clip_value=1.0)
    )
    fault = Fault('gradient', 'stem', 4, float('nan'))
    runner, said = train(tmp_path, fault, monkeypatch, more_hooks=[clip])
    assert not not_finite(runner.model, runner.optim_wrapper.optimizer)
    named = 'a gradient; clip_grad has divided all' if by_norm else 'the gradient of stem.'
    assert said and f'iteration 5 is not finite, first in {named}' in said[0]


def test_a_fault_among_accumulated_gradients_costs_their_step(tmp_path, monkeypatch):
    fault = Fault('gradient', 'conv', 4, float('nan'))
    runner, said = train(tmp_path, fault, monkeypatch, accumulate=3)
    assert not not_finite(runner.model, runner.optim_wrapper.optimizer)
    assert said == [
        'iteration 6 is not finite, first in the gradient of conv.weight; its step is skipped'
    ] or ('the gradient of conv' in said[0] and len(said) == 1)


def test_lambda_falls_to_0_and_the_step_is_counted(tmp_path):
    lam = []

    class Keep(Inject):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            lam.append(runner.model.conv.ags_statistics[0].item())

    hook = Keep(Fault('gradient', 'norm', 4, float('inf')))
    tiny_runner(tmp_path, length=2, hooks=[hook]).train()
    assert lam[4] == 0 and all(value > 0 for value in lam[:4] + lam[5:])
    count = MessageHub.get_current_instance().get_scalar('train/ags_nonfinite_steps')
    assert count.current() == 1


class Always(Inject):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self._now = True


def test_a_run_that_has_diverged_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(NonFiniteGuardHook.__init__.__wrapped__, '__defaults__', (7,))
    runner = tiny_runner(tmp_path, hooks=[Always(Fault('loss', '', 0, float('nan')))])
    with pytest.raises(UsageError, match='diverged: 7 steps in a row.*first in the loss.*Lower'):
        runner.train()
    assert runner.iter == 6
    assert not not_finite(runner.model, runner.optim_wrapper.optimizer)


@pytest.mark.parametrize('accumulate', [2, 3])
def test_a_run_that_accumulates_and_never_steps_ends_too(accumulate, tmp_path, monkeypatch):
    monkeypatch.setattr(NonFiniteGuardHook.__init__.__wrapped__, '__defaults__', (3,))
    fault = Always(Fault('gradient', 'conv', 0, float('nan')))
    runner = tiny_runner(tmp_path, hooks=[fault], accumulate=accumulate, length=4)
    with pytest.raises(UsageError, match='diverged: 3 steps in a row.*the gradient of conv'):
        runner.train()
    assert runner.iter == 3 * accumulate - 1


@pytest.mark.parametrize('patience', [0, -1, 2.5, True, '9', None])
def test_impossible_patience_is_refused(patience):
    with pytest.raises(ValueError, match='patience=.*must be a whole number of at least 1'):
        NonFiniteGuardHook(patience)


def test_a_finite_run_is_the_same_with_and_without_the_guard(tmp_path, monkeypatch):
    guarded = tiny_runner(tmp_path / 'a', length=2)
    guarded.train()
    monkeypatch.setattr(NonFiniteGuardHook, 'before_train_iter', lambda self, *_, **__: None)
    monkeypatch.setattr(NonFiniteGuardHook, 'after_train_iter', lambda self, *_, **__: None)
    monkeypatch.setattr(NonFiniteGuardHook, 'before_train', lambda self, runner: None)
    bare = tiny_runner(tmp_path / 'b', length=2)
    bare.train()
    for one, other in zip(guarded.model.parameters(), bare.model.parameters(), strict=True):
        assert torch.equal(one, other)
