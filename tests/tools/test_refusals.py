"""Arguments, settings, data and checkpoints that tools/train.py and tools/test.py refuse before they begin."""

import pytest
import torch
from helpers.user_folder import main_of, make_user_folder, write
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope

from surge_mm.utils.errors import DatasetError, LaunchError, UsageError


def weights(cfg):
    """Return the state dict of the detector of a config."""
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(cfg.model).state_dict()


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return make_user_folder(tmp_path_factory.mktemp('user'))


@pytest.mark.parametrize(
    'arguments, message',
    [
        (['nowhere.py'], r"config 'nowhere.py': there is no such file"),
        (['mine.py', '--amp', '--cfg-options', 'optim_wrapper=None'], 'optim_wrapper should be'),
        (['mine.py', '--resume', 'nowhere.pth'], r"--resume 'nowhere.pth': there is no such file"),
        (['mine.py', '--cfg-options', 'load_from=a.pth'], r"load_from 'a.pth': there is no such"),
        (['mine.py', '--cfg-options', 'default_scope=mmseg'], r"default_scope='mmseg'"),
        (
            ['mine.py', '--cfg-options', 'default_scope=mmpretrain'],
            r"type='CocoDataset' is not a dataset of default_scope='mmpretrain'",
        ),
        (
            ['mine.py', '--cfg-options', 'model.type=FCOSS'],
            r"FCOSS is not in the .*did you mean 'FCOS'",
        ),
        (['mine.py', '--cfg-options', 'optim_wraper.type=A'], r"did you mean 'optim_wrapper'"),
        (
            ['mine.py', '--cfg-options', 'optim_wrapper.optimizer.weight_decy=0.1'],
            r"unexpected keyword argument 'weight_decy'",
        ),
        (
            ['mine.py', '--cfg-options', 'custom_hooks.9.eta=1'],
            r'--cfg-options .*custom_hooks.9.eta',
        ),
        (['mine.py', '--cfg-options', 'custom_hooks=3'], r'custom_hooks=3 must be a list'),
        (
            ['mine.py', '--cfg-options', 'train_dataloader.dataset.annfile=a'],
            r"train_dataloader.dataset: .* did you mean 'ann_file'",
        ),
        (['mine.py', '--work-dir', 'mine.py'], r"work_dir 'mine.py' is a file"),
        (
            ['mine.py', '--launcher', 'pytorch'],
            r'environment variable \w+ expected, but not set. Start the tool with',
        ),
    ],
)
def test_bad_arguments_are_refused(arguments, message, folder, monkeypatch):
    with pytest.raises(UsageError, match=message):
        main_of('train', monkeypatch, folder, *arguments)


@pytest.mark.parametrize(
    'text, message',
    [
        (
            "model = dict(backbone=dict(conv_cfg=dict(activation=dict(type='AproxSign'))))",
            "did you mean 'ApproxSign'",
        ),
        ('model = dict(backbone=dict(conv_cfg=dict(compensator=dict(eta=-1))))', 'eta=-1'),
        ('model = dict(backbone=dict(conv_cfg=dict(compensator=dict(scale=1))))', 'not both'),
        ('model = dict(backbone=dict(depth=19))', 'depth=19'),
        ('custom_hooks = [dict(type="surge_mm.AdaptiveGradientScalerHook", eta=-1)]', 'eta=-1'),
        (
            "optim_wrapper = dict(optimizer=dict(lr='fast'))",
            "between instances of 'float' and 'str'",
        ),
        ('no_such_name', "cannot be read: NameError: name 'no_such_name'"),
        ('assert not 1', r'cannot be read: AssertionError: .*\(.*py:2\)'),
    ],
)
def test_bad_settings_are_refused_before_training(text, message, folder, monkeypatch, tmp_path):
    config = write(folder, 'bad.py', text)
    with pytest.raises(LaunchError, match=message):
        main_of('train', monkeypatch, folder, config, '--work-dir', tmp_path)
    assert not list(tmp_path.rglob('*.pth'))


@pytest.mark.parametrize(
    'options, message',
    [
        ('train_dataloader.dataset.ann_file=annotations/no.json', 'annotations/no.json'),
        ('val_dataloader.dataset.data_prefix.img=pictures/', 'pictures'),
        ('train_dataloader.dataset.metainfo.classes=("cat","dog")', 'cat'),
    ],
)
def test_data_that_does_not_fit_is_refused_before_training(options, message, folder, monkeypatch):
    with pytest.raises(DatasetError, match=message):
        main_of('train', monkeypatch, folder, 'mine.py', '--cfg-options', options)


def test_checkpoint_that_does_not_fit_is_not_evaluated(folder, monkeypatch, tmp_path):
    cfg = Config.fromfile(folder / 'mine.py')
    torch.save({'state_dict': weights(cfg)}, tmp_path / 'good.pth')
    torch.save({'state_dict': {}}, tmp_path / 'empty.pth')
    (tmp_path / 'text.pth').write_text('no checkpoint')
    with pytest.raises(LaunchError, match='does not match the model of the config'):
        main_of('test', monkeypatch, folder, 'mine.py', tmp_path / 'empty.pth')
    with pytest.raises(LaunchError, match='cannot be read'):
        main_of('test', monkeypatch, folder, 'mine.py', tmp_path / 'text.pth')
    deeper = write(folder, 'deeper.py', 'model = dict(backbone=dict(depth=34))')
    with pytest.raises(LaunchError, match='does not match the model'):
        main_of('test', monkeypatch, folder, deeper, tmp_path / 'good.pth')


def test_training_from_a_checkpoint_of_another_depth_is_refused(folder, monkeypatch, tmp_path):
    cfg = Config.fromfile(folder / 'mine.py')
    torch.save({'state_dict': weights(cfg)}, tmp_path / 'r18.pth')
    deeper = write(
        folder,
        'from_r18.py',
        f"model = dict(backbone=dict(depth=34))\nload_from = '{tmp_path / 'r18.pth'}'",
    )
    with pytest.raises(UsageError, match='depth=34'):
        main_of('train', monkeypatch, folder, deeper, '--work-dir', tmp_path / 'work')


def test_training_from_a_checkpoint_of_which_nothing_fits_is_refused(folder, monkeypatch, tmp_path):
    torch.save({'state_dict': {'features.0.weight': torch.zeros(8, 3, 3, 3)}}, tmp_path / 'vgg.pth')
    begun = write(folder, 'from_vgg.py', f"load_from = '{tmp_path / 'vgg.pth'}'")
    with pytest.raises(LaunchError, match='does not match the model of the config'):
        main_of('train', monkeypatch, folder, begun, '--work-dir', tmp_path / 'work')
    wider = ['--cfg-options', 'model.bbox_head.feat_channels=32']
    cfg = Config.fromfile(folder / 'mine.py')
    cfg.merge_from_dict({'model.bbox_head.feat_channels': 48})
    torch.save({'state_dict': weights(cfg)}, tmp_path / 'epoch_1.pth')
    with pytest.raises(LaunchError, match='does not match the model of the config in '):
        resume = ['--work-dir', tmp_path, '--resume', tmp_path / 'epoch_1.pth']
        main_of('train', monkeypatch, folder, 'mine.py', *resume, *wider)
