"""Loading a checkpoint that fits: it is read once. Those that do not fit: test_matching.py and test_safe_loading.py."""

from unittest import mock

import pytest
import torch
from helpers.hostile_runs import Classifier, copies
from mmengine.runner import CheckpointLoader

from surge_mm.checkpoint.checked import load_checked, read_checked
from surge_mm.utils.errors import LaunchError


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(1)
    path = tmp_path / 'weights.pth'
    torch.save({'meta': {'iter': 3}, 'state_dict': Classifier().state_dict()}, path)
    return str(path)


def test_a_checkpoint_is_read_once_and_loaded(checkpoint):
    model = Classifier()
    with mock.patch.object(
        CheckpointLoader, 'load_checkpoint', side_effect=CheckpointLoader.load_checkpoint
    ) as read:
        assert load_checked(model, checkpoint)['meta'] == {'iter': 3}
    read.assert_called_once()
    theirs = torch.load(checkpoint)['state_dict']
    assert all(torch.equal(value, theirs[name]) for name, value in model.state_dict().items())


def test_a_checkpoint_of_ranks_is_loaded(checkpoint, tmp_path):
    theirs = torch.load(checkpoint)['state_dict']
    torch.save({f'module.{name}': value for name, value in theirs.items()}, tmp_path / 'ranks.pth')
    model = Classifier()
    load_checked(model, str(tmp_path / 'ranks.pth'))
    assert all(torch.equal(value, theirs[name]) for name, value in model.state_dict().items())


def test_a_checkpoint_is_read_without_a_change_of_the_model(checkpoint):
    model = Classifier()
    before = copies(model)
    read_checked(model, checkpoint)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_checkpoint_with_a_part_of_the_weights_is_read_for_a_start_but_not_loaded(tmp_path):
    model, path = Classifier(), str(tmp_path / 'part.pth')
    before = copies(model)
    torch.save({'state_dict': {k: v for k, v in before.items() if 'layer1' in k}}, path)
    assert read_checked(model, path, whole=False)
    with pytest.raises(LaunchError, match='part.pth.* does not match .* is missing in the checkpo'):
        load_checked(model, path)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    'path, message',
    [
        ('none.pth', "checkpoint 'none.pth' does not exist"),
        ('http://127.0.0.1:9/none.pth', 'none.pth.* cannot be read: .*refused'),
    ],
)
def test_a_checkpoint_that_is_not_there_is_named(path, message):
    with pytest.raises(LaunchError, match=message):
        load_checked(Classifier(), path)
