"""Errors between reading a config and the first step."""

import logging
from types import SimpleNamespace

import pytest
from helpers.bad_runs import WHOLE, refusal
from torch import nn

from surge_mm.launch.runner import begin
from surge_mm.utils.errors import LaunchError


class Runner(SimpleNamespace):
    def __init__(self):
        cfg, model = SimpleNamespace(filename='mine.py'), nn.ReLU()
        super().__init__(cfg=cfg, hooks=[], _val_loop=None, model=model, logger=logging)

    def register_hook(self, hook, priority):
        self.hooks.append(hook)


def test_an_error_of_the_beginning_concerns_the_config():
    said = r"^config 'mine.py': RuntimeError: no \(test_runner.py:"
    with pytest.raises(LaunchError, match=said), begin(Runner()):
        raise RuntimeError('no')


def test_a_refusal_of_the_beginning_is_passed_on_as_it_is():
    with pytest.raises(LaunchError, match='^unequal batches$'), begin(Runner()):
        raise LaunchError('unequal batches')


def test_the_loss_of_another_rank_has_nothing_to_do_with_the_config():
    lost = RuntimeError(
        '[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:544] Connection closed'
    )
    with pytest.raises(RuntimeError, match=r'^\[/pytorch'), begin(Runner()):
        raise lost


def test_errors_of_the_training_itself_keep_their_traceback():
    runner = Runner()
    with pytest.raises(KeyError, match='boxes'), begin(runner):
        runner.hooks[0].before_train(runner)
        raise KeyError('boxes')


def test_a_misspelt_initializer_is_refused_with_a_suggestion(tmp_path):
    initial = {'type': 'Kaimng', 'layer': 'Linear'}
    model = {**WHOLE['model'], 'init_cfg': initial}
    said = refusal({**WHOLE, 'model': model}, tmp_path)
    assert "did you mean 'Kaiming'?" in said
