"""Misspelt keys that MMEngine ignores."""

import pytest
from helpers.bad_runs import WHOLE
from mmengine.config import Config

from surge_mm.preflight.config_keys import check_names
from surge_mm.utils.errors import LaunchError


def check(**keys):
    check_names(Config({**WHOLE, 'work_dir': 'w', **keys}))


def test_variables_of_the_author_are_accepted():
    check(
        train_pipeline=[],
        val_evaluator_abs={},
        max_epochs=3,
        optimizer={'type': 'SGD'},
        default_hooks={'my_hook': {'type': 'EMAHook', 'momentum': 0.1}, 'timer': None},
        optim_wrapper={
            'constructor': 'Mine',
            'generator': {'type': 'OptimWrapper'},
            'paramwise_cfg': {'custom_kys_of_mine': 1},
        },
        log_level=20,
        collate=None,
    )


def test_a_config_of_the_new_style_may_import_classes_and_modules_with_names_like_keys(tmp_path):
    path = tmp_path / 'new_style.py'
    path.write_text(
        'import torch.optim as models\n'
        'from mmengine.optim import OptimWrapper\n'
        "model = dict(type='FCOS')\n"
        'optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=models.SGD, lr=0.1))\n'
    )
    cfg = Config.fromfile(path)
    assert 'OptimWrapper' in cfg and 'models' in cfg
    check_names(cfg)
    cfg.models = {}
    with pytest.raises(LaunchError, match="unknown config key 'models'; did you mean 'model'"):
        check_names(cfg)


@pytest.mark.parametrize(
    'keys, message',
    [
        ({'custom_hook': []}, "^unknown config key 'custom_hook'; did you mean 'custom_hooks'"),
        ({'Train_CFG': {}}, "did you mean 'train_cfg'"),
        ({'default_hooks': {'chekpoint': None}}, "did you mean 'default_hooks.checkpoint'"),
        ({'env_cfg': {'cudnn_benchmrak': 1}}, "did you mean 'env_cfg.cudnn_benchmark'"),
        ({'auto_scale_lr': {'enabel': True}}, "did you mean 'auto_scale_lr.enable'"),
        ({'custom_hooks': {'type': 'EMAHook'}}, 'custom_hooks=.* must be a list'),
        ({'resume': 'yes'}, "resume='yes' must be True or False"),
        (
            {'optim_wrapper': {'paramwise_cfg': {'norm_decay_mlt': 0}}},
            "did you mean 'optim_wrapper.paramwise_cfg.norm_decay_mult'",
        ),
        (
            {'optim_wrapper': {'paramwise_cfg': {'custom_keys': {'bias': {'lr_mlt': 0}}}}},
            "did you mean 'optim_wrapper.paramwise_cfg.custom_keys.bias.lr_mult'",
        ),
    ],
)
def test_misspelt_keys_and_values_of_the_wrong_type_are_refused(keys, message):
    with pytest.raises(LaunchError, match=message):
        check(**keys)
