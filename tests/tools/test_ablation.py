"""tools/ablation.py as a user runs it, on a few small images."""

import importlib.util
import json
import os
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from helpers.tools import run_tool
from mmengine.config import Config
from PIL import Image

from surge_mm.ops import GradientScale
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


class LabScale(GradientScale):
    """A scale as a user defines one."""

    def __init__(self, eta):
        self.eta = eta

    def scale(self, g_b, g_a):
        return self.eta


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('ablation')
    rng = np.random.default_rng(0)
    for name in ('cat', 'dog'):
        (folder / 'images' / name).mkdir(parents=True)
        for i in range(6):
            pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / 'images' / name / f'{i}.png')
    base = ROOT / 'configs' / '_base_' / 'recipes' / 'resnet20_600e_cifar10.py'
    (folder / 'small.py').write_text(CONFIG.format(base=str(base)))
    base = ROOT / 'configs' / 'resnet' / 'ste_resnet20_600e_cifar10.py'
    (folder / 'ste_small.py').write_text(CONFIG.format(base=str(base)))
    return folder


def run(folder, *words):
    environment = {'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)}
    with mock.patch.dict(os.environ, environment):
        return run_tool('ablation', *words, folder=folder)


def logs(work_dir, *variants):
    """Return how often a run of each variant was started."""
    return [len(list((work_dir / name).glob('seed_*/*/vis_data'))) for name in variants]


def test_methods_of_a_recipe_are_trained_compared_and_not_trained_again(folder, monkeypatch):
    out = folder / 'out'
    words = ['--seeds', '3', '--work-dir', 'out', '--jobs', '2']
    first = run(folder, 'small.py', '--methods', 'ste', 'surge-lite', *words)
    assert first.returncode == 0, first.stderr
    table = json.loads((out / 'table.json').read_text())
    assert [(row['name'], row['seeds']) for row in table] == [('ste', [3]), ('surge-lite', [3])]
    assert table[0]['relative_time'] == 1
    assert (out / 'table.md').read_text() in first.stdout
    assert (out / 'curves.png').is_file()
    assert (out / 'table.csv').read_text().splitlines()[1].startswith('ste,accuracy/top1,')
    assert 'surge-lite &' in (out / 'table.tex').read_text()
    assert 'seed=3' in (out / 'surge-lite' / 'seed_3' / 'train.log').read_text()

    cfg = Config.fromfile(out / 'surge-lite' / 'surge-lite_small.py')
    assert cfg.model.backbone.conv_cfg.compensator == {'eta': 0.1, 'tied': True}
    assert cfg.model.backbone.base_channels == 4
    trained = Config.fromfile(out / 'surge-lite' / 'seed_3' / 'surge-lite_small.py')
    assert trained.model == cfg.model

    (out / 'surge-lite' / 'seed_3' / 'finished').unlink()  # as if stopped before its end
    more = run(folder, 'small.py', '--methods', 'ste', 'surge-lite', *words)
    assert more.returncode == 0, more.stderr
    assert logs(out, 'ste', 'surge-lite') == [1, 2]
    assert 'resumed epoch: 2' in (out / 'surge-lite' / 'seed_3' / 'train.log').read_text()

    monkeypatch.chdir(folder)
    for arguments, message in (
        (['small.py', '--methods', 'ste', '--cfg-options', 'a=1'], 'was started with the settings'),
        (
            ['resnet20_600e_cifar10', '--methods', 'ste', 'surge'],
            'ste. holds runs of another config',
        ),
    ):
        monkeypatch.setattr(sys, 'argv', ['ablation.py', *arguments, *words])
        with pytest.raises(LaunchError, match=message):
            ablation.main()
    assert not (out / 'surge').exists()


@pytest.fixture
def configs_of(folder, monkeypatch):
    """Return the configs that a command would train, by variant."""

    def call(*words):
        monkeypatch.chdir(folder)
        queues = []
        monkeypatch.setattr(
            ablation, 'train_all', lambda queue, configs, *_: queues.append((queue, configs)) or []
        )
        monkeypatch.setattr(ablation, 'report', lambda *_: None)
        monkeypatch.setattr(sys, 'argv', ['ablation.py', '--seeds', '0', '--jobs', '1', *words])
        ablation.main()
        ((queue, configs),) = queues
        assert [name for name, _ in queue] == list(configs)
        return {name: Config.fromfile(path) for name, path in configs.items()}

    return call


def test_variants_of_a_method_need_no_config_of_their_own(configs_of):
    words = ['small.py', '--methods', 'ste', '--work-dir', 'sweep']
    for eta in ('0.05', '0.3'):
        words += ['--variant', f'eta-{eta}', 'surge', f'custom_hooks.0.eta={eta}']
    words += ['--variant', 'lab', 'surge', 'conv_cfg.compensator.type=LabScale']
    words += ['conv_cfg.compensator.eta=0.2', 'optim_wrapper.optimizer.lr=0.5']
    found = configs_of(*words)
    assert list(found) == ['ste', 'eta-0.05', 'eta-0.3', 'lab']
    hooks = [[hook['eta'] for hook in cfg.get('custom_hooks', [])] for cfg in found.values()]
    assert hooks == [[], [0.05], [0.3], [0.1]]
    compensators = [cfg.model.backbone.conv_cfg.compensator for cfg in found.values()]
    assert compensators[0] is None and compensators[1] == compensators[2] == {'eta': 0.1}
    assert compensators[3] == {'eta': 0.2, 'type': 'LabScale'}
    rates = [cfg.optim_wrapper.optimizer.lr for cfg in found.values()]
    assert rates[3] == 0.5 and 0.5 not in rates[:3]
    assert all(cfg.model.backbone.base_channels == 4 for cfg in found.values())


def test_a_method_of_ones_own_is_a_file_whose_modules_are_added(configs_of, folder, monkeypatch):
    (folder / 'bnn_lab_module.py').touch()
    monkeypatch.syspath_prepend(folder)
    (folder / 'lab_method.py').write_text(
        "conv_cfg = dict(type='surge_mm.SurgeConv2d', compensator=dict(type='LabScale', eta=1))\n"
        "custom_imports = dict(imports=['bnn_lab_module'])\n"
    )
    found = configs_of('small.py', '--methods', 'ste', 'lab_method.py', '--work-dir', 'own')
    assert list(found) == ['ste', 'lab_method']
    before = found['ste'].custom_imports['imports']
    assert before and found['lab_method'].custom_imports['imports'] == [*before, 'bnn_lab_module']
    assert found['lab_method'].model.backbone.conv_cfg.compensator == {
        **{'type': 'LabScale', 'eta': 1}
    }


def test_variants_of_a_config(configs_of):
    words = ['ste_small.py', '--variant', 'long', 'ste_small', 'train_cfg.max_epochs=7']
    found = configs_of(*words, '--work-dir', 'long')
    assert [(name, cfg.train_cfg.max_epochs) for name, cfg in found.items()] == [
        *(('ste_small', 2), ('long', 7))
    ]


@pytest.mark.parametrize(
    'words, message',
    [
        (['a'], 'must be NAME METHOD KEY=VALUE'),
        (['a/b', 'surge'], 'must be NAME METHOD KEY=VALUE'),
        (['a', 'x=1'], 'must be NAME METHOD KEY=VALUE'),
        (['a', 'surge', 'x'], "--variant a surge x: 'x' must be KEY=VALUE"),
        (['a', 'surg'], "method 'surg' is neither a file .* did you mean 'surge'"),
        (['ste', 'surge'], r"different names, got \['ste', 'ste'\]"),
        (
            ['a', 'surge', 'custom_hook.0.eta=1'],
            "unknown key 'custom_hook.0.eta'; did you mean 'custom_hooks'",
        ),
        (['a', 'surge', 'custom_hooks.7.eta=1'], '--variant a: .* does not fit surge.py'),
        (
            ['a', 'surge', 'conv_cfg.compensator.eta=0.3'],
            'compensator.eta has no effect, since the hook custom_hooks.0 sets eta=0.1 .* Set custom_hooks.0.eta',
        ),
    ],
    ids=str,
)
def test_a_variant_that_cannot_be_made_is_named(words, message, configs_of):
    with pytest.raises(LaunchError, match=message):
        configs_of('small.py', '--methods', 'ste', '--variant', *words, '--work-dir', 'wrong')


@pytest.mark.parametrize(
    'setting, message',
    [
        ('conv_cfg.compensator.tpye=x', "unknown 'tpye'; did you mean 'type'"),
        ('conv_cfg.compensator.type=no_such_module.AGS', "No module named 'no_such_module'"),
        ('custom_hooks.0.eta=-1', 'eta=-1'),
        ('custom_hooks.0.wramup_iters=1', "did you mean 'warmup_iters'"),
        ('optim_wrapper.optimizer.momentun=0.9', "'momentun'"),
        ('model.backbone.depth=19', 'depth'),
    ],
)
def test_a_variant_that_cannot_be_built_is_named_before_anything_is_written(
    setting, message, configs_of, folder
):
    with pytest.raises(LaunchError, match=f'variant typo: .*{message}'):
        configs_of(
            *('small.py', '--methods', 'ste', '--variant', 'typo', 'surge', setting),
            *('--work-dir', 'nothing'),
        )
    assert not (folder / 'nothing').exists()


def test_cfg_options_hold_in_the_check_and_finished_variants_are_not_built(configs_of, folder):
    words = ['small.py', '--methods', 'ste', '--work-dir', 'options', '--cfg-options']
    with pytest.raises(LaunchError, match='variant ste: .*depth'):
        configs_of(*words, 'model.backbone.depth=19')
    (folder / 'options' / 'ste' / 'seed_0').mkdir(parents=True)
    (folder / 'options' / 'ste' / 'seed_0' / 'finished').touch()
    assert list(configs_of(*words, 'model.backbone.depth=19')) == ['ste']


FAKE_TRAIN = """
import json
import sys
from pathlib import Path

folder = Path(sys.argv[3])
print('a line of the log')
if folder.parent.name == 'bad':
    sys.exit('error: no data')
file = folder / '20260101_000000' / 'vis_data' / 'scalars.json'
file.parent.mkdir(parents=True)
train = {'loss': 1.0, 'time': 1.0, 'epoch': 1, 'step': 1}
file.write_text(json.dumps(train) + '\\n' + json.dumps({'accuracy/top1': 50.0, 'step': 1}))
"""


def test_a_run_that_fails_is_named_and_the_others_are_reported(
    folder, tmp_path, monkeypatch, capsys
):
    (tmp_path / 'train.py').write_text(FAKE_TRAIN)
    monkeypatch.setattr(ablation, 'TRAIN', tmp_path / 'train.py')
    for name in ('good', 'bad'):
        (tmp_path / f'{name}.py').write_text(f'_base_ = {str(folder / "ste_small.py")!r}')
    monkeypatch.chdir(tmp_path)
    words = ['ablation.py', 'good.py', 'bad.py', '--seeds', '0', '--work-dir', 'half']
    monkeypatch.setattr(sys, 'argv', words)
    with pytest.raises(LaunchError, match='failed: bad seed 0'):
        ablation.main()
    files = 'table.md, table.json, table.csv, table.tex, curves.png'
    assert f'in half: {files}' in capsys.readouterr().out
    table = json.loads((tmp_path / 'half' / 'table.json').read_text())
    assert [row['name'] for row in table] == ['good']
    assert 'error: no data' in (tmp_path / 'half' / 'bad' / 'seed_0' / 'train.log').read_text()


def test_the_folder_of_a_config_does_not_depend_on_the_other_configs(folder, monkeypatch):
    monkeypatch.chdir(folder)
    trained = []
    monkeypatch.setattr(ablation, 'train_all', lambda queue, *_: trained.append(queue) or [])
    for configs in (['ste_small.py'], ['ste_small.py', 'small.py']):
        words = ['ablation.py', *configs, '--seeds', '0', '--work-dir', 'names']
        monkeypatch.setattr(sys, 'argv', words)
        ablation.main()
    assert trained == [[('ste_small', 0)], [('ste_small', 0), ('small', 0)]]
