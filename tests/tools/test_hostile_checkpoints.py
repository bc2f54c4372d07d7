"""tools/train.py and tools/test.py reject hostile checkpoints by an error in one line."""

import pytest
import torch
from helpers.hostile_runs import WAYS, assert_rejected, small_run, spoil, tool
from mmengine.config import Config

from surge_mm.launch.resume import choose_start
from surge_mm.utils.errors import LaunchError


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('user')
    with small_run(folder):
        yield folder


def test_every_option_rejects_code(folder):
    path = spoil(folder, 'code through getattr')
    for way in WAYS:
        assert_rejected(folder, path, way)


@pytest.mark.parametrize('attack', ['truncated', 'weights alone'])
def test_resume_needs_the_whole_state_of_a_run(folder, attack):
    assert_rejected(folder, spoil(folder, attack), '--resume')


def test_a_config_in_the_checkpoint_is_not_run_by_resume(folder):
    """MMEngine's Runner.resume executes ``meta.config``, which is text to torch.load."""
    path, marker = spoil(folder, 'config'), folder / 'marker'
    more = '--cfg-options', 'train_cfg.max_epochs=2', 'train_cfg.val_interval=5'
    assert tool('train', 'mine.py', '--work-dir', 'on', '--resume', path, *more) is None
    assert (folder / 'on' / 'epoch_2.pth').exists()
    assert not marker.exists()
    Config.fromstring(torch.load(path)['meta']['config'], file_format='.py')
    assert marker.exists(), 'the attack must work without protection'
    marker.unlink()


def test_the_variable_that_turns_the_protection_off_has_no_effect(folder, monkeypatch):
    path = spoil(folder, 'code')
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    assert_rejected(folder, path, 'test')


@pytest.mark.parametrize('pointer', ['https://example.org/epoch_1.pth', '/etc/epoch_1.pth'])
def test_last_checkpoint_leads_to_no_other_place(tmp_path, pointer):
    (tmp_path / 'last_checkpoint').write_text(pointer)
    cfg = Config({'work_dir': str(tmp_path), 'load_from': None})
    try:
        choose_start(cfg, 'auto')
    except LaunchError:
        return
    assert cfg.load_from is None
