"""tools/ablation.py as a user runs it, on a few small images."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from surge_mm.utils.errors import LaunchError

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location('ablation', ROOT / 'tools' / 'ablation.py')
ablation = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(ablation)

CONFIG = """
_base_ = {base!r}
data_preprocessor = dict(_delete_=True, mean=[127.0] * 3, std=[60.0] * 3)
pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
loader = dict(
    _delete_=True,
    batch_size=4,
    num_workers=0,
    dataset=dict(type='CustomDataset', data_prefix='images', pipeline=pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
train_dataloader = loader
val_dataloader = loader
test_dataloader = loader
model = dict(backbone=dict(base_channels=4), head=dict(in_channels=16, num_classes=2))
train_cfg = dict(max_epochs=2)
param_scheduler = []
default_hooks = dict(logger=dict(interval=1))
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('ablation')
    rng = np.random.default_rng(0)
    for name in ('cat', 'dog'):
        (folder / 'images' / name).mkdir(parents=True)
        for i in range(6):
            pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / 'images' / name / f'{i}.png')
    for method in ('ste', 'surge'):
        base = ROOT / 'configs' / 'cifar10' / f'resnet20_600e_cifar10_{method}.py'
        (folder / f'small_{method}.py').write_text(CONFIG.format(base=str(base)))
    return folder


def run(folder, *words):
    environment = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)}
    words = [sys.executable, str(ROOT / 'tools' / 'ablation.py'), *words]
    return subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


def test_variants_are_trained_compared_and_not_trained_again(folder):
    words = ['small_ste.py', 'small_surge.py', '--seeds', '3', '--work-dir', 'out', '--jobs', '2']
    first = run(folder, *words)
    assert first.returncode == 0, first.stderr
    table = json.loads((folder / 'out' / 'table.json').read_text())
    assert [(row['name'], row['seeds']) for row in table] == [('ste', [3]), ('surge', [3])]
    assert table[0]['relative_time'] == 1
    assert (folder / 'out' / 'table.md').read_text() in first.stdout
    assert (folder / 'out' / 'curves.png').is_file()
    log = (folder / 'out' / 'surge' / 'seed_3' / 'train.log').read_text()
    assert 'seed=3' in log

    (folder / 'out' / 'surge' / 'seed_3' / 'finished').unlink()  # as if stopped before its end
    (folder / 'out' / 'surge' / 'seed_3' / 'epoch_2.pth').exists()
    again = run(folder, *words)
    assert again.returncode == 0, again.stderr
    logs = {
        name: list((folder / 'out' / name / 'seed_3').glob('*/vis_data'))
        for name in ('ste', 'surge')
    }
    assert (len(logs['ste']), len(logs['surge'])) == (1, 2)

    other = run(folder, *words, '--cfg-options', 'optim_wrapper.optimizer.lr=1')
    assert other.returncode == 1
    assert 'was started with the settings []' in other.stderr


def test_a_run_that_fails_is_named_and_the_others_are_reported(folder):
    (folder / 'small_broken.py').write_text(
        "_base_ = 'small_ste.py'\nmodel = dict(backbone=dict(depth=19))\n"
    )
    done = run(folder, 'small_ste.py', 'small_broken.py', '--seeds', '0', '--work-dir', 'half')
    assert done.returncode == 1
    assert 'failed: broken seed 0' in done.stderr
    assert [row['name'] for row in json.loads((folder / 'half' / 'table.json').read_text())] == [
        'ste'
    ]
    assert 'depth=19' in (folder / 'half' / 'broken' / 'seed_0' / 'train.log').read_text()


def test_variants_are_called_by_what_sets_them_apart(tmp_path):
    paths = [tmp_path / f'resnet20_600e_{name}.py' for name in ('ste', 'surge-norm', 'surge')]
    for path in paths:
        path.touch()
    assert list(ablation.name_variants(list(map(str, paths)))) == ['ste', 'surge-norm', 'surge']
    assert list(ablation.name_variants([str(paths[0])])) == ['resnet20_600e_ste']
    more = [tmp_path / f'{net}_r18_20e_{m}.py' for net in ('fcos', 'ssd') for m in ('ste', 'surge')]
    for path in more:
        path.touch()
    names = ['fcos_ste', 'fcos_surge', 'ssd_ste', 'ssd_surge']
    assert list(ablation.name_variants(list(map(str, more)))) == names
    longer = [tmp_path / 'ssd_r18_20e_surge_long.py', more[-1]]
    longer[0].touch()
    assert list(ablation.name_variants(list(map(str, longer)))) == ['surge_long', 'surge']
    with pytest.raises(LaunchError, match='no such file'):
        ablation.name_variants([str(tmp_path / 'gone.py')])


def test_the_baseline_is_ste_unless_another_variant_is_named():
    assert ablation.find_baseline(None, ['surge', 'ste']) == 'ste'
    assert ablation.find_baseline(None, ['surge', 'fp']) == 'surge'
    assert ablation.find_baseline('fp', ['surge', 'fp']) == 'fp'
    with pytest.raises(LaunchError, match="'recu' is none of the variants: surge, fp"):
        ablation.find_baseline('recu', ['surge', 'fp'])
