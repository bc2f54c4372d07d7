"""MMPretrain works beside a transformers that its multimodal models cannot be imported with."""

import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from surge_mm.compat import multimodal

ROOT = Path(__file__).parents[2]

TRAIN = """
import hashlib, pickle
from pathlib import Path
import numpy as np

import surge_mm
from mmengine.config import Config
from mmengine.runner import Runner
from surge_mm.datasets.cifar import CIFAR10Tensor

folder = Path('cifar10/cifar-10-batches-py')
folder.mkdir(parents=True)
def write(name):
    data = np.random.randint(0, 256, (4, 3072), dtype=np.uint8)
    content = pickle.dumps({'data': data, 'labels': [0, 1, 2, 3]}, protocol=2)
    (folder / name).write_bytes(content)
    return [name, hashlib.md5(content).hexdigest()]
CIFAR10Tensor.train_list = [write(f'data_batch_{i}') for i in range(1, 6)]

cfg = Config.fromfile(CONFIG)
cfg.work_dir = 'run'
cfg.train_cfg = {'by_epoch': True, 'max_epochs': 1}
cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
cfg.test_dataloader = cfg.test_cfg = cfg.test_evaluator = None
cfg.train_dataloader.batch_size = 10
cfg.train_dataloader.dataset.data_root = 'cifar10'
cfg.train_dataloader.dataset.device = 'cpu'
Runner.from_cfg(cfg).train()
assert Path('run/epoch_1.pth').is_file()
"""


def run_beside_transformers(version, code, folder):
    """Run ``code`` in a process that finds a package transformers without the names that MMPretrain imports."""
    package = folder / 'site' / 'transformers'
    package.mkdir(parents=True)
    (package / '__init__.py').write_text(f'__version__ = {version!r}\n')
    record = folder / 'site' / f'transformers-{version}.dist-info'
    record.mkdir()
    (record / 'METADATA').write_text(
        f'Metadata-Version: 2.1\nName: transformers\nVersion: {version}\n'
    )
    paths = [str(package.parent), str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])]
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(paths)}
    return subprocess.run(
        [sys.executable, '-W', 'default', '-c', code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


def test_a_cifar_config_trains_beside_a_current_transformers(tmp_path):
    config = ROOT / 'configs' / 'resnet' / 'surge_resnet20_600e_cifar10.py'
    done = run_beside_transformers('5.24.0', TRAIN.replace('CONFIG', repr(str(config))), tmp_path)
    assert done.returncode == 0, done.stderr
    message = 'multimodal models of MMPretrain are disabled: they cannot be imported with transformers 5.24.0'
    assert done.stderr.count(message) == 1


@pytest.mark.parametrize('version, disabled', [('4.51.3', False), ('4.52.0', True)])
def test_the_version_decides(monkeypatch, version, disabled):
    monkeypatch.setattr(multimodal, 'version', lambda name: version)
    switch = SimpleNamespace(WITH_MULTIMODAL=True)
    expected = pytest.warns(UserWarning, match='are disabled') if disabled else nullcontext()
    with expected:
        multimodal.disable_broken_multimodal(switch)
    assert switch.WITH_MULTIMODAL is not disabled
    multimodal.disable_broken_multimodal(switch)  # warns no second time
