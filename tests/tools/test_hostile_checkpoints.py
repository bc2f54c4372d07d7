"""tools/train.py and tools/test.py refuse hostile checkpoints in one line, and go on from their own."""

import pytest
import torch
from helpers.hostile_runs import WAYS, assert_refused, small_run, spoil, tool
from mmengine.config import Config

from surge_mm.launch.resume import choose_start
from surge_mm.utils.errors import LaunchError


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('user')
    with small_run(folder):
        yield folder


def test_every_way_in_of_the_tools_refuses_it(folder):
    path = spoil(folder, 'code through getattr')
    for way in WAYS:
        assert_refused(folder, path, way)


@pytest.mark.parametrize('attack', ['cut off', 'weights alone', 'optimizer of another'])
def test_resume_refuses_what_is_not_a_whole_state_of_this_run(folder, attack):
    assert_refused(folder, spoil(folder, attack), '--resume')


def test_a_config_in_the_checkpoint_is_not_run_by_resume(folder):
    """MMEngine's Runner.resume runs ``meta.config``, whatever torch.load allows."""
    path, marker = spoil(folder, 'config'), folder / 'marker'
    more = '--cfg-options', 'train_cfg.max_epochs=2', 'train_cfg.val_interval=5'
    assert tool('train', 'mine.py', '--work-dir', 'on', '--resume', path, *more) is None
    assert (folder / 'on' / 'epoch_2.pth').exists()
    assert not marker.exists()
    Config.fromstring(torch.load(path)['meta']['config'], file_format='.py')
    assert marker.exists(), 'the attack must be a real one'
    marker.unlink()


def test_the_variable_that_takes_the_protection_away_is_without_effect(folder, monkeypatch):
    path = spoil(folder, 'code')
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    assert_refused(folder, path, 'test')


@pytest.mark.parametrize('pointer', ['https://example.org/epoch_1.pth', '/etc/epoch_1.pth'])
def test_last_checkpoint_leads_to_no_other_place(tmp_path, pointer):
    (tmp_path / 'last_checkpoint').write_text(pointer)
    cfg = Config({'work_dir': str(tmp_path), 'load_from': None})
    try:
        choose_start(cfg, 'auto')
    except LaunchError:
        return
    assert cfg.load_from is None
