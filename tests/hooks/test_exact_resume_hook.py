"""Interrupted and resumed runs end with the same bits as uninterrupted runs."""

import pytest
import torch
from helpers.tiny_run import BATCHES, Stop, differences, state, stop_and_resume, tiny_runner

from surge_mm.hooks.exact_resume_hook import reseed


def whole_and_resumed(tmp_path, stops, **kwargs):
    return [state(file) for file in stop_and_resume(tmp_path, stops, **kwargs)]


@pytest.mark.parametrize('loop', ['epoch', 'iter'])
@pytest.mark.parametrize('accumulate', [1, 4])
def test_a_resumed_run_ends_with_the_same_bits(loop, accumulate, tmp_path):
    # 4 does not divide the 6 iterations between checkpoints: gradients are under way in them
    whole, resumed = whole_and_resumed(
        tmp_path, [BATCHES * 2 + 1], loop=loop, accumulate=accumulate, ema=True, validate=True
    )
    assert not differences(whole, resumed)
    assert whole['optimizer']['state'] and 'ema_state_dict' in whole


@pytest.mark.parametrize(
    ('activation', 'weight'),
    [('EDE', 'ReCU'), ('EDE', 'Libra'), ('EDE', 'AdaBin'), ('ReSTE', 'Libra'), ('RSign', 'ReCU')],
)
def test_each_scheduled_binarizer_goes_on_where_it_was(activation, weight, tmp_path):
    whole, resumed = whole_and_resumed(
        tmp_path, [BATCHES + 3], activation=activation, weight=weight, length=3
    )
    assert not differences(whole, resumed)


@pytest.mark.parametrize('head', ['ElasticSign', 'ElasticBinary'])
def test_a_learned_scale_goes_on_where_it_was_in_the_middle_of_an_epoch(head, tmp_path):
    checkpoint = {'interval': 2, 'by_epoch': False}
    whole, resumed = whole_and_resumed(tmp_path, [3, 9], checkpoint=checkpoint, head=head, length=2)
    assert not differences(whole, resumed)
    assert whole['state_dict']['head.activation_scale_bits'] == 1
    assert whole['state_dict']['head.activation_scale'] != 1


@pytest.mark.parametrize('interval', [4, 6])
def test_a_checkpoint_within_an_epoch_goes_on_there(interval, tmp_path):
    checkpoint = {'interval': interval, 'by_epoch': False}
    stops = [9, 13, 21]
    whole, resumed = whole_and_resumed(tmp_path, stops, checkpoint=checkpoint)
    assert not differences(whole, resumed)


@pytest.mark.parametrize('stop', [BATCHES + 1, BATCHES * 2])
def test_a_run_that_keeps_the_best_checkpoint_goes_on_with_the_next_epoch(stop, tmp_path):
    # with a new best score, MMEngine saves the checkpoint of the epoch again, after the epoch has ended
    whole, resumed = whole_and_resumed(
        tmp_path, [stop], validate=True, checkpoint={'save_best': 'accuracy', 'rule': 'greater'}
    )
    assert not differences(whole, resumed)
    first = torch.load(tmp_path / 'whole' / 'epoch_1.pth')['meta']
    assert (first['iter'], first['batches_done']) == (BATCHES, 0)


def test_without_the_hook_a_resumed_run_differs(tmp_path):
    whole, resumed = whole_and_resumed(tmp_path, [BATCHES * 2 + 1], exact=False)
    assert differences(whole, resumed)


@pytest.fixture
def resumed(tmp_path):
    """Return a function that builds a runner whose checkpoint is of a run with twice as many batches an epoch."""
    checkpoint = {'interval': 4, 'by_epoch': False}
    with pytest.raises(KeyboardInterrupt):
        tiny_runner(tmp_path, checkpoint=checkpoint, hooks=[Stop(4)]).train()
    file = tmp_path / 'iter_4.pth'
    saved = torch.load(file, weights_only=True)
    assert saved['meta']['batches_an_epoch'] == BATCHES
    saved['meta']['batches_an_epoch'] = 2 * BATCHES  # as if it were of half as many ranks
    torch.save(saved, file)
    return lambda *hooks: tiny_runner(tmp_path, checkpoint=checkpoint, length=3, hooks=[*hooks])


def test_with_another_number_of_batches_an_epoch_begins_anew(resumed):
    runner = resumed()
    runner.train()
    assert runner.iter == 4 + 3 * BATCHES


def test_a_checkpoint_after_an_epoch_that_began_anew_goes_on_within_its_own_epoch(resumed):
    with pytest.raises(KeyboardInterrupt):
        resumed(Stop(4 + BATCHES + 4)).train()  # within the second epoch
    runner = resumed()
    runner.train()
    assert runner.iter == 4 + 3 * BATCHES


def test_seeds_differ_by_each_part_of_the_key():
    drawn = []
    for key in [(1, 0, 0, 5), (1, 0, 1, 5), (1, 1, 0, 5), (2, 0, 0, 5), (1, 0, 0, 6)]:
        reseed(*key)
        first = torch.rand(3)
        reseed(*key)
        assert torch.equal(first, torch.rand(3))
        drawn.append(tuple(first.tolist()))
    assert len(set(drawn)) == len(drawn)
