"""Misspelt keys and wrong values of every key of ours, in a quick pass; ``tests/stress`` has many more of them."""

import numpy as np
import pytest
from helpers.bad_configs import misspellings, misspelt, spoilt, targets
from helpers.bad_runs import (
    TOOLS,
    WHOLE,
    misspelt_options,
    parser_of,
    places,
    refusal,
    suggests,
    with_key,
    with_value,
)
from helpers.bad_values import wrong_values

TARGETS = {target.name: target for target in targets()}


def test_what_is_not_spoilt_is_built():
    assert {name: target.refusal(target.good) for name, target in TARGETS.items()} == dict.fromkeys(
        TARGETS
    )


def test_each_misspelt_key_is_refused_with_the_one_that_is_meant():
    cases = misspelt(1, seed=0)
    assert len(cases) > 100
    for target, key, wrong in cases:
        said = target.refusal(target.misspelt(key, wrong))
        assert said and f'{key!r}' in said.partition('Known')[0], (target.name, key, wrong, said)


def test_each_wrong_value_is_refused_by_name():
    cases = spoilt(wrong_values)
    assert len(cases) > 1000
    for target, key, value in cases:
        said = target.refusal(target.with_key(key, value))
        assert said and key in said, (target.name, key, value, said)


@pytest.mark.parametrize(
    'name, keys',
    [
        ('SurgeResNet', {'depth': np.int64(18), 'norm_eval': 1, 'strides': [1, 2, 2, 2]}),
        ('SurgeConv2d', {'kernel_size': [3, 3], 'padding': 'same', 'bias': 0, 'pad_value': 1.0}),
        ('RPReLU', {'init': 1}),
        ('EDE', {'t_min': 1, 't_max': np.float32(5)}),
        ('BatchAugmentPreprocessor', {'mean': np.ones(3), 'flip_prob': 1}),
        ('DistilledClassifier', {'label_weight': 1}),
        ('AdaptiveGradientScalerHook', {'eta': 1}),
        ('compensator', {'eta': 1}),
        ('rule', {'kernel_size': 3}),
    ],
)
def test_another_type_that_makes_no_difference_is_taken(name, keys):
    target = TARGETS[name]
    assert target.refusal({**target.good, **keys}) is None


def test_a_config_that_is_not_spoilt_trains(tmp_path):
    assert refusal(WHOLE, tmp_path) is None


def test_misspelt_keys_of_a_config_are_refused_before_training(tmp_path):
    every = [path for path, _ in places() if len(path[-1]) > 2]
    for path in every[::7]:
        (wrong,) = misspellings(path[-1], 1, seed=0)
        said = refusal(with_key(path, wrong), tmp_path)
        assert said, (path, wrong)
    assert not list(tmp_path.rglob('*.pth'))


def test_misspelt_types_of_a_config_are_refused_before_training(tmp_path):
    every = [(path, value) for path, value in places() if path[-1] == 'type' and value != 'norm']
    for path, value in every[::4]:
        name = value.rpartition('.')[2]
        (wrong,) = misspellings(name, 1, seed=0)
        said = refusal(with_value(path, wrong), tmp_path)
        assert suggests(said, name), (path, wrong, said)
    assert not list(tmp_path.rglob('*.pth'))


@pytest.mark.parametrize('tool', TOOLS)
def test_a_misspelt_option_is_refused_with_the_one_that_is_meant(tool, monkeypatch, capsys):
    for parse, option, wrong in misspelt_options(parser_of(tool, monkeypatch), 1, seed=0):
        with pytest.raises(SystemExit):
            parse(wrong)
        assert suggests(capsys.readouterr().err, option), (option, wrong)
