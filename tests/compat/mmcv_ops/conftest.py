"""Outputs of mmcv's compiled operators, if the file with them is available."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from surge_mm.compat import install_mmcv_ops

# with a compiled mmcv, surge_mm replaces nothing
collect_ignore_glob = [] if install_mmcv_ops() else ['test_*.py']

_DEFAULT = Path(__file__).parents[4] / 'shared' / 'data' / 'mmcv_ops_reference.npz'


@pytest.fixture(scope='session')
def reference():
    """Return inputs and outputs of mmcv's compiled CPU operators, by name."""
    path = Path(os.environ.get('SURGE_MM_REFERENCE_DATA', _DEFAULT))
    if not path.is_file():
        pytest.skip(f'outputs of compiled mmcv are not at {path} (SURGE_MM_REFERENCE_DATA)')
    with np.load(path) as data:
        return {name: torch.from_numpy(data[name]) for name in data if name != 'mmcv_version'}


@pytest.fixture
def sine_like():
    """Return the output gradient of the reference: sin(0, 1, 2, ...) in the shape of a tensor."""
    return lambda y: torch.arange(y.numel(), dtype=y.dtype).sin().view_as(y)
