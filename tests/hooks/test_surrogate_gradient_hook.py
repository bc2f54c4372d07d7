import pytest
from helpers.tiny_run import differences, state, tiny_runner
from mmengine.hooks import Hook
from torch import nn

import surge_mm
from surge_mm import SurrogateGradientHook
from surge_mm.utils.errors import UsageError


class Controls(Hook):
    """What the hook shall do, done on the layers themselves."""

    def before_train(self, runner):
        for layer in (runner.model.conv, runner.model.head):
            layer.activation.control(gain=2, floor=0.1, window='rms', k=2)


def test_it_sets_the_controls_of_all_layers_and_training_follows_them(tmp_path):
    hook = {
        'type': 'surge_mm.SurrogateGradientHook',
        'gain': 2,
        'floor': 0.1,
        'window': 'rms',
        'k': 2,
    }
    files = {}
    for name, hooks in {'hook': [hook], 'layers': [Controls()], 'none': []}.items():
        tiny_runner(tmp_path / name, length=1, activation='ApproxSign', hooks=hooks).train()
        files[name] = state(tmp_path / name / 'epoch_1.pth')
    assert differences(files['hook'], files['layers']) == []
    assert differences(files['hook'], files['none'])


def test_a_control_that_is_not_given_stays_that_of_the_layer(tmp_path):
    run = tiny_runner(
        tmp_path,
        length=1,
        activation='ApproxSign',
        hooks=[{'type': 'surge_mm.SurrogateGradientHook', 'floor': 0.2}],
    )
    run.model.conv.activation.control(gain=1.5, floor=0.1)
    run.train()
    assert str(run.model.conv.activation) == 'ApproxSign(surrogate_gain=1.5, surrogate_floor=0.2)'
    assert str(run.model.head.activation) == 'ApproxSign(surrogate_floor=0.2)'


def test_a_model_without_binary_layers_is_refused_before_training(tmp_path):
    run = tiny_runner(tmp_path, hooks=[SurrogateGradientHook(gain=2)])
    run.model = nn.Sequential(surge_mm.to_float(run.model.conv))
    hook = next(hook for hook in run.hooks if isinstance(hook, SurrogateGradientHook))
    run.cfg.model = {'type': 'Some'}
    with pytest.raises(UsageError, match='SurrogateGradientHook: the model has no binary layer'):
        hook.before_train(run)


@pytest.mark.parametrize(
    'kwargs, message',
    [
        ({}, 'give gain, floor or window'),
        ({'gain': 0}, 'SurrogateGradientHook: gain=0 must be a finite number above 0'),
        ({'floor': 2}, 'floor=2 must be a number in 0 to 1'),
        ({'window': 'max'}, "window='max' must be 'rms'"),
        ({'k': 2}, "k=2 is the width of window='rms'"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SurrogateGradientHook(**kwargs)
