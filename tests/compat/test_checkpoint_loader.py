"""MMEngine loads checkpoints without running code from them."""

import os
from pathlib import Path

import mmengine.runner.checkpoint as mmengine_checkpoint
import pytest
import torch
from helpers import hostile_checkpoints as hostile
from mmengine.runner import CheckpointLoader, load_checkpoint
from torch import nn

from surge_mm.compat.checkpoint_loader import replace_checkpoint_loader
from surge_mm.utils.errors import CheckpointError


@pytest.fixture
def model():
    return nn.Linear(3, 2)


@pytest.fixture
def raw(model):
    return hostile.saved(hostile.run_state(model))


@pytest.mark.parametrize('scheme', ['file', 'https'])
@pytest.mark.parametrize('forced', ['0', '1'])
def test_mmengine_loads_with_weights_only_whatever_the_environment_says(
    tmp_path, monkeypatch, raw, model, scheme, forced
):
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', forced)
    calls = []
    load = torch.load
    monkeypatch.setattr(
        torch, 'load', lambda *args, **kwargs: calls.append(kwargs) or load(*args, **kwargs)
    )

    def download(url, file, **kwargs):
        Path(file).write_bytes(data)

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    data, marker = raw, tmp_path / 'marker'
    path = tmp_path / 'good.pth'
    path.write_bytes(data)
    load_checkpoint(model, str(path) if scheme == 'file' else 'https://example.org/hub.pth')
    assert [keywords['weights_only'] for keywords in calls] == [True]

    data = hostile.saved(
        {'state_dict': model.state_dict(), 'meta': hostile.Call(os.system, f'touch {marker}')}
    )
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match='system'):
        CheckpointLoader.load_checkpoint(
            str(path) if scheme == 'file' else 'https://example.org/evil.pth'
        )
    assert not marker.exists()


def test_the_variable_that_turns_the_protection_off_causes_a_warning(monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', 'yes')
    with pytest.warns(UserWarning, match='allows checkpoints to run code'):
        replace_checkpoint_loader(mmengine_checkpoint)
