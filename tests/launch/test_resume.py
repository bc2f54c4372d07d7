"""Which checkpoint a run begins with, and that no other run is overwritten."""

import errno
import fcntl
import os
from unittest.mock import patch

import pytest
import torch
from mmengine.config import Config

from surge_mm.launch.resume import choose_start, locked_work_dir, newest_checkpoint
from surge_mm.utils.errors import LaunchError


def run_in(folder, **settings):
    return Config({'work_dir': str(folder), **settings})


def start(folder, resume, load_from=None, in_config=False):
    cfg = run_in(folder, load_from=load_from, resume=in_config)
    choose_start(cfg, resume)
    return cfg.load_from, cfg.resume


def test_resume_without_a_checkpoint_is_noted(tmp_path):
    (note,) = choose_start(run_in(tmp_path), 'auto')
    assert 'has no checkpoint to resume from: the training starts from the beginning' in note
    assert choose_start(run_in(tmp_path), None) == []
    save(tmp_path, 'epoch_1.pth')
    assert choose_start(run_in(tmp_path), 'auto') == []


def save(folder, *names):
    """Checkpoints, each younger than the one before."""
    for name in names:
        torch.save({'state_dict': {}}, folder / name)
        age(folder / name)


def age(file, clock=[0]):  # noqa: B006  it shall count on
    clock[0] += 1
    os.utime(file, (clock[0], clock[0]))


def note(folder, name):
    (folder / 'last_checkpoint').write_text(name)
    age(folder / 'last_checkpoint')


def test_a_new_run_does_not_begin_in_the_folder_of_another(tmp_path):
    assert start(tmp_path, None, 'weights.pth') == ('weights.pth', False)
    assert start(tmp_path, 'auto', 'weights.pth') == ('weights.pth', False)  # nothing there yet
    save(tmp_path, 'epoch_1.pth')
    other = tmp_path / 'elsewhere' / 'epoch_1.pth'
    other.parent.mkdir()
    save(other.parent, other.name)
    for resume in (None, str(other)):
        with pytest.raises(LaunchError, match='holds a run already'):
            start(tmp_path, resume)


@pytest.mark.parametrize('number', [errno.ENOLCK, errno.ENOSYS, errno.EPERM])
def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, 'flock', flock)
    with patch('surge_mm.launch.resume.warn') as warn, locked_work_dir(run_in(tmp_path)):
        pass
    assert os.strerror(number) in warn.call_args[0][0]


def test_only_the_first_rank_locks_the_work_dir(tmp_path, monkeypatch):
    with locked_work_dir(run_in(tmp_path)):
        with pytest.raises(LaunchError, match='in use'), locked_work_dir(run_in(tmp_path)):
            pass
        monkeypatch.setenv('RANK', '1')
        with locked_work_dir(run_in(tmp_path, launcher='pytorch')):
            pass
    monkeypatch.setenv('RANK', '0')
    with locked_work_dir(run_in(tmp_path, launcher='pytorch')):
        pass


def test_resume_of_the_config_is_that_of_mmengine(tmp_path):
    weights = tmp_path / 'elsewhere' / 'epoch_3.pth'
    weights.parent.mkdir()
    save(weights.parent, weights.name)
    weights = str(weights)
    for option in (None, 'auto'):
        assert start(tmp_path, option, in_config=True) == (None, False)
        assert start(tmp_path, option, weights, in_config=True) == (weights, True)
    save(tmp_path, 'epoch_5.pth')
    mine = str(tmp_path / 'epoch_5.pth')
    assert start(tmp_path, None, in_config=True) == (mine, True)
    assert start(tmp_path, 'auto', weights, in_config=True) == (mine, True)
    assert start(tmp_path, mine, weights, in_config=True) == (mine, True)
    assert start(tmp_path, None, mine, in_config=True) == (mine, True)
    with pytest.raises(LaunchError, match="load_from '.*epoch_7.pth': there is no such file"):
        start(tmp_path, None, str(tmp_path / 'epoch_7.pth'), in_config=True)


def test_the_runs_own_checkpoint_counts_not_the_one_that_it_began_with(tmp_path):
    save(tmp_path, 'epoch_1.pth')
    mine = str(tmp_path / 'epoch_1.pth')
    assert start(tmp_path, mine, 'weights.pth') == (mine, True)
    for named in (mine, '/moved/since/epoch_1.pth', 'epoch_7.pth', ''):
        note(tmp_path, named)
        assert start(tmp_path, 'auto', 'weights.pth') == (mine, True)


def test_a_checkpoint_that_the_run_had_no_time_to_note_is_the_newest(tmp_path):
    save(tmp_path, 'epoch_9.pth')
    assert newest_checkpoint(tmp_path).name == 'epoch_9.pth'
    note(tmp_path, 'epoch_9.pth')
    save(tmp_path, 'epoch_10.pth')
    assert newest_checkpoint(tmp_path).name == 'epoch_10.pth'


def test_what_an_earlier_run_had_reached_does_not_count(tmp_path):
    save(tmp_path, 'epoch_3.pth', 'epoch_10.pth', 'iter_500.pth')
    note(tmp_path, 'epoch_3.pth')  # as after --resume epoch_2.pth
    assert newest_checkpoint(tmp_path).name == 'epoch_3.pth'


@pytest.mark.parametrize('kept', [0, 10, 400])
def test_damaged_checkpoints_are_passed_over(kept, tmp_path, capsys):
    save(tmp_path, 'iter_10.pth', 'iter_20.pth')
    note(tmp_path, 'iter_20.pth')
    damaged = tmp_path / 'iter_20.pth'
    damaged.write_bytes(damaged.read_bytes()[:kept])
    assert newest_checkpoint(tmp_path).name == 'iter_10.pth'
    assert "skipped: checkpoint '" in capsys.readouterr().out
    (tmp_path / 'iter_10.pth').write_bytes(b'')
    with pytest.raises(LaunchError, match='all checkpoints are damaged'):
        newest_checkpoint(tmp_path)


def test_without_a_note_two_kinds_of_checkpoints_are_refused(tmp_path):
    save(tmp_path, 'epoch_1.pth', 'iter_20.pth')
    with pytest.raises(LaunchError, match='choose one with --resume CHECKPOINT'):
        newest_checkpoint(tmp_path)


def test_a_checkpoint_with_a_name_of_the_users_own_is_found_by_the_note(tmp_path):
    save(tmp_path, 'mine_5.pth')
    note(tmp_path, 'mine_5.pth')
    assert newest_checkpoint(tmp_path).name == 'mine_5.pth'


def test_a_checkpoint_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(LaunchError, match='epoch_7.pth.*no such file'):
        start(tmp_path, str(tmp_path / 'epoch_7.pth'))
