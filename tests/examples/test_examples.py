"""The programs of ``examples/`` train binary layers. Those of packages that are not installed are skipped."""

import runpy
import sys

import pytest
import torch
from helpers.documents import ROOT

from surge_mm.layers import BinaryLayer

PROGRAMS = {
    'torchvision_loop.py': 'torchvision',
    'timm_loop.py': 'timm',
    'transformers_loop.py': 'transformers',
    'lightning_trainer.py': 'lightning',
    'accelerate_loop.py': 'accelerate',
}
"""Programs, and the packages that they need."""


@pytest.mark.parametrize('name', PROGRAMS)
def test_program_trains_every_binary_layer(name: str, monkeypatch, tmp_path, capsys) -> None:
    pytest.importorskip(PROGRAMS[name])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT / 'examples'))
    monkeypatch.setattr(sys, 'argv', [name, '--steps', '2'])
    model = runpy.run_path(str(ROOT / 'examples' / name), run_name='example')['main']()
    layers = [module for module in model.modules() if isinstance(module, BinaryLayer)]
    assert layers
    for layer in layers:
        for parameter in layer.parameters():
            assert torch.isfinite(parameter.grad).all() and parameter.grad.abs().sum() > 0
    assert 'accuracy: 0.' in capsys.readouterr().out


def test_every_example_is_run_and_named_on_the_page() -> None:
    files = {path.name for path in (ROOT / 'examples').glob('*.py')} - {'digits.py'}
    page = (ROOT / 'docs' / 'plain_pytorch.md').read_text()
    assert files == set(PROGRAMS)
    assert not [name for name in files if f'](../examples/{name})' not in page]
