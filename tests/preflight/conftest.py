"""The demo set, whole and to damage."""

import shutil
from pathlib import Path

import pytest

from surge_mm.datasets.digits import make_digits


@pytest.fixture(scope='session')
def made(tmp_path_factory):
    return make_digits(tmp_path_factory.mktemp('digits') / 'set', train=6, val=3, test=2)


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """Copy the set to damage it, named by a path relative to the current directory."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made, 'set')
    return Path('set')
