"""Checkpoints are complete at any moment, and none is removed before the next one is written."""

from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from helpers.tiny_run import BATCHES, tiny_runner
from mmengine.config import ConfigDict
from mmengine.fileio import LocalBackend, get_file_backend
from mmengine.runner import Runner

from surge_mm.hooks import SafeCheckpointHook
from surge_mm.utils.errors import UsageError


class Watch:
    """Lists the checkpoints at the moment when each one is about to be written."""

    def __init__(self, folder, monkeypatch, fail_at=None):
        self.seen = []
        save = Runner.save_checkpoint

        def watched(runner, out_dir, filename, *args, **kwargs):
            self.seen.append((filename, {file.name for file in folder.glob('*.pth')}))
            if filename == fail_at:
                raise UsageError('killed')
            return save(runner, out_dir, filename, *args, **kwargs)

        monkeypatch.setattr(Runner, 'save_checkpoint', watched)


def test_the_last_checkpoint_stays_until_the_next_is_written(tmp_path, monkeypatch):
    watch = Watch(tmp_path, monkeypatch)
    tiny_runner(tmp_path, checkpoint={'max_keep_ckpts': 1}).train()
    assert [name for name, _ in watch.seen] == [f'epoch_{i}.pth' for i in range(1, 5)]
    for i, (_, there) in enumerate(watch.seen[1:], 1):
        assert there == {f'epoch_{i}.pth'}
    assert {file.name for file in tmp_path.glob('*.pth')} == {'epoch_4.pth'}


def test_the_best_checkpoint_stays_until_a_better_one_is_written(tmp_path, monkeypatch):
    scores = iter([0.1, 0.3, 0.2, 0.4])
    monkeypatch.setattr(
        'helpers.tiny_run.Accuracy.compute_metrics',
        lambda self, results: {'accuracy': next(scores)},
    )
    watch = Watch(tmp_path, monkeypatch)
    checkpoint = {'max_keep_ckpts': 1, 'save_best': 'accuracy', 'rule': 'greater'}
    tiny_runner(tmp_path, checkpoint=checkpoint, validate=True).train()
    there = dict(watch.seen)
    assert 'best_accuracy_epoch_1.pth' in there['best_accuracy_epoch_2.pth']
    assert 'best_accuracy_epoch_2.pth' in there['best_accuracy_epoch_4.pth']
    left = {file.name for file in tmp_path.glob('*.pth')}
    assert left == {'epoch_4.pth', 'best_accuracy_epoch_4.pth'}


def test_where_a_checkpoint_fails_the_one_before_is_resumed(tmp_path, monkeypatch):
    Watch(tmp_path, monkeypatch, fail_at='epoch_3.pth')
    with pytest.raises(UsageError):
        tiny_runner(tmp_path, checkpoint={'max_keep_ckpts': 1}).train()
    monkeypatch.undo()
    (tmp_path / '.epoch_3.0a1b2c3d.pth.partial').write_bytes(b'half')
    (tmp_path / '.epoch_3.pth.0a1b2c3d.partial').write_bytes(b'half')  # of an earlier version
    runner = tiny_runner(tmp_path, checkpoint={'max_keep_ckpts': 1})
    assert runner._load_from.endswith('epoch_2.pth')
    runner.train()
    assert runner.iter == 4 * BATCHES
    left = {file.name for pattern in ('*.pth*', '.*.pth*') for file in tmp_path.glob(pattern)}
    assert left == {'epoch_4.pth'}


def test_gradients_under_way_are_kept_and_only_then(tmp_path):
    tiny_runner(tmp_path, accumulate=4, length=2).train()
    first, second = (torch.load(tmp_path / f'epoch_{i}.pth', weights_only=True) for i in (1, 2))
    gradients = first['accumulated_gradients']  # 6 iterations: 4 and 2
    assert gradients.keys() == {name for name, _ in tiny_runner(tmp_path).model.named_parameters()}
    assert any(gradient.any() for gradient in gradients.values())
    assert 'accumulated_gradients' not in second  # the last iteration is a step


@pytest.mark.parametrize(
    'held', ['text', {'head.bias': torch.ones(7)}, {'head.bias': 1.0}, {'x': torch.ones(3)}]
)
def test_gradients_of_another_model_are_refused(held, tmp_path):
    tiny_runner(tmp_path, accumulate=4, length=1).train()
    file = tmp_path / 'epoch_1.pth'
    torch.save(torch.load(file, weights_only=True) | {'accumulated_gradients': held}, file)
    runner = tiny_runner(tmp_path, length=2)
    with pytest.raises((AttributeError, KeyError, RuntimeError)):
        runner.train()
    assert runner.iter == BATCHES  # no step was taken


def test_checkpoints_are_written_atomically_and_other_files_as_before(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(
        'surge_mm.hooks.safe_checkpoint_hook.write_atomically',
        lambda path, data, advice: written.append(Path(path).name),
    )
    tiny_runner(tmp_path, length=1).train()
    assert written == ['epoch_1.pth']
    assert type(get_file_backend(str(tmp_path))) is LocalBackend


def test_a_checkpoint_on_another_disk_is_written_there_with_its_mode(tmp_path):
    """The link and the mode of the group are those of the user, as in a shared work dir."""
    disk = tmp_path / 'disk'
    disk.mkdir()
    (tmp_path / 'run').mkdir()
    (disk / 'last').write_bytes(b'before')
    (disk / 'last').chmod(0o664)
    (tmp_path / 'run' / 'epoch_1.pth').symlink_to(disk / 'last')
    with patch('helpers.tiny_run.newest_checkpoint', lambda folder: None):
        tiny_runner(tmp_path / 'run', length=1).train()
    assert (tmp_path / 'run' / 'epoch_1.pth').is_symlink()
    assert torch.load(disk / 'last', weights_only=True)['meta']['iter'] == BATCHES
    assert (disk / 'last').stat().st_mode & 0o777 == 0o664


def test_a_backend_of_the_user_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr('surge_mm.hooks.safe_checkpoint_hook.write_atomically', None)  # not called
    tiny_runner(tmp_path, length=1, checkpoint={'backend_args': {'backend': 'local'}}).train()
    assert (tmp_path / 'epoch_1.pth').is_file()


def test_a_dict_of_a_dataset_is_saved_so_that_it_can_be_loaded(tmp_path):
    colors = ConfigDict({'a': 'red', 'b': [ConfigDict(c=1)]})
    checkpoint = {'meta': {'dataset_meta': {'classes': ('a',), 'colors': colors}}}
    SafeCheckpointHook().before_save_checkpoint(None, checkpoint)
    torch.save(checkpoint, tmp_path / 'a.pth')
    loaded = torch.load(tmp_path / 'a.pth', weights_only=True)
    meta = {'classes': ('a',), 'colors': {'a': 'red', 'b': [{'c': 1}]}}
    assert loaded['meta'] == {'dataset_meta': meta}
    assert type(loaded['meta']['dataset_meta']['colors']) is dict
