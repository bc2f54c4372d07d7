"""Trainings by the configs of GLUE, narrow and on sentences that are made."""

import contextlib
import copy

import pytest
import torch
from helpers.glue_runs import run_config, train, write_data
from helpers.tiny_run import Stop, differences, state

pytest.importorskip('tokenizers')


@pytest.fixture
def folder(tmp_path):
    write_data(tmp_path)
    return tmp_path


def test_a_run_resumed_within_an_epoch_ends_with_the_same_bits(folder):
    """Batches by length, dropout, learned scales that start in the first step, and lambda go on where they were."""
    checkpoint = {
        'default_hooks.checkpoint.interval': 4,
        'default_hooks.checkpoint.by_epoch': False,
        'default_hooks.checkpoint.max_keep_ckpts': 9,
    }

    def run(name, *hooks):
        recipe = 'bert-mini_1e_sst2-mini'
        cfg = run_config(folder, recipe, 'surge-bit', folder / name, 2, **checkpoint)
        train(cfg, hooks)

    run('whole')
    with contextlib.suppress(KeyboardInterrupt):
        run('resumed', Stop(5))
        raise AssertionError('the run was not stopped')
    run('resumed')
    whole, resumed = (state(folder / name / 'iter_12.pth') for name in ('whole', 'resumed'))
    assert not differences(whole, resumed)
    scales = [v for k, v in whole['state_dict'].items() if k.endswith('activation_scale')]
    assert scales and not any(value == 1 for value in scales)


def test_three_steps_start_from_the_run_before_and_learn_from_it(folder):
    def step(recipe, method, teacher=None):
        settings = {'model.teacher': teacher} if teacher else {}
        cfg = run_config(folder, recipe, method, folder / method, **settings)
        cfg.dump(folder / f'{method}.py')
        # small steps, so that the weights tell the start
        cfg.optim_wrapper.optimizer.lr = 1e-6
        runner = train(copy.deepcopy(cfg))
        saved = torch.load(folder / method / 'epoch_1.pth', weights_only=True)
        files = {
            'config': str(folder / f'{method}.py'),
            'checkpoint': str(folder / method / 'epoch_1.pth'),
        }
        return runner, saved, files

    _, first, teacher = step('bert-base_3e_sst2', 'fp')
    runner, second, teacher = step('bert-base-1bit_10e_sst2', 'bit-2bit', teacher)
    assert first['meta']['dataset_meta'] == second['meta']['dataset_meta']
    runner, third, _ = step('bert-base-1bit_10e-step2_sst2', 'bit', teacher)

    def close(one, other, suffix):
        keys = [key for key in one if key.endswith(suffix)]
        assert keys
        return all(torch.allclose(one[key], other[key], atol=1e-4) for key in keys)

    states = [saved['state_dict'] for saved in (first, second, third)]
    for one, other in zip(states, states[1:], strict=False):
        assert close(one, other, 'dense.weight')
        assert not any('teacher' in key for key in other)
    bits = [
        {int(value) for key, value in one.items() if key.endswith('activation_scale_bits')}
        for one in states
    ]
    assert bits == [set(), {2}, {1}]
    assert not close(states[1], states[2], 'activation_scale')  # of other bits: started again
    taught = runner.model.teacher.state_dict()
    assert all(torch.equal(value, states[1][key]) for key, value in taught.items())
    losses = runner.message_hub.get_scalar('train/loss_distill_hidden').data[0]
    assert len(losses) == 6 and (losses > 0).all()
