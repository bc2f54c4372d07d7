"""Keys that MMEngine would ignore."""

import pytest
from helpers.bad_runs import WHOLE
from mmengine.config import Config

from surge_mm.preflight.config_keys import check_names, check_parts
from surge_mm.utils.errors import LaunchError


def check(**keys):
    cfg = Config({**WHOLE, 'work_dir': 'w', **keys})
    check_names(cfg)
    check_parts(cfg)


def test_names_of_ones_own_and_classes_that_hand_on_are_left_alone():
    check(
        train_pipeline=[],
        val_evaluator_abs={},
        max_epochs=3,
        optimizer={'type': 'SGD'},
        default_hooks={'my_hook': {'type': 'EMAHook', 'momentum': 0.1}, 'timer': None},
        optim_wrapper={
            'constructor': 'Mine',
            'generator': {'type': 'OptimWrapper'},
            'paramwise_cfg': {'custom_kys': 1},
        },
        log_level=20,
        collate=None,
    )


@pytest.mark.parametrize(
    'keys, message',
    [
        ({'custom_hook': []}, "custom_hook is read by nobody; did you mean 'custom_hooks'"),
        ({'Train_CFG': {}}, "did you mean 'train_cfg'"),
        ({'default_hooks': {'chekpoint': None}}, "did you mean 'default_hooks.checkpoint'"),
        ({'env_cfg': {'cudnn_benchmrak': 1}}, "did you mean 'env_cfg.cudnn_benchmark'"),
        ({'custom_hooks': {'type': 'EMAHook'}}, 'custom_hooks=.* must be a list'),
        ({'resume': 'yes'}, "resume='yes' must be True or False"),
        ({'custom_hooks': [{'type': 'EMAHok'}]}, "custom_hooks.0.type='EMAHok' .* mean 'EMAHook'"),
        (
            {'custom_hooks': [{'type': 'CheckpointHook', 'intervall': 1}]},
            "custom_hooks.0.intervall does not exist; did you mean 'interval'",
        ),
        ({'param_scheduler': {'type': 'MultiStepLR', 'milstones': []}}, "mean 'milestones'"),
        ({'train_cfg': {'type': 'IterBasedTrainLoop', 'max_iter': 3}}, "mean 'max_iters'"),
        (
            {'train_cfg': {'by_epoch': False, 'max_epochs': 3}},
            'train_cfg.max_epochs does not exist',
        ),
        ({'optim_wrapper': {'optimzer': {}}}, "optim_wrapper.optimzer .* mean 'optimizer'"),
        (
            {'optim_wrapper': {'paramwise_cfg': {'custom_keys': {'bias': {'lr_mlt': 0}}}}},
            "custom_keys.bias.lr_mlt does not exist; did you mean 'lr_mult'",
        ),
        ({'optim_wrapper': {'clip_grad': 3}}, 'optim_wrapper.clip_grad=3 must be a dict or None'),
        ({'optim_wrapper': {'paramwise_cfg': []}}, r'paramwise_cfg=\[\] must be a dict'),
        (
            {'optim_wrapper': {'paramwise_cfg': {'custom_keys': {'bias': 0.1}}}},
            'custom_keys.bias=0.1 must be a dict',
        ),
        ({'train_dataloader': {'batchsize': 3}}, "train_dataloader.batchsize .* mean 'batch_size'"),
        ({'train_dataloader': {'collate_fn': {'type': 'pseudo_colate'}}}, "mean 'pseudo_collate'"),
    ],
)
def test_misspelt_keys_are_refused_with_their_place(keys, message):
    with pytest.raises(LaunchError, match=message):
        check(**keys)
