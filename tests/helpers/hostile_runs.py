"""A small model and a small run for tests of hostile checkpoints, and shared assertions."""

import io
import os
import runpy
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from helpers import hostile_checkpoints as hostile
from helpers.hostile_programs import mutated_program, random_program
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel

from surge_mm import SurgeResNet
from surge_mm.checkpoint.checked import load_checked
from surge_mm.checkpoint.safe_loading import load_from_file
from surge_mm.datasets.digits import make_digits
from surge_mm.utils.errors import CheckpointError

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs' / 'demo' / 'surge_fcos-1bit_r18-light_10e_digits.py'


class Classifier(BaseModel):
    def __init__(self, init_cfg=None, **kwargs):
        super().__init__()
        self.backbone = SurgeResNet(
            20, base_channels=4, num_stages=3, out_indices=(2,), init_cfg=init_cfg, **kwargs
        )

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.backbone(inputs)


def copies(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_damage_is_found(folder, raw, seeds):
    """Load damaged copies of ``raw``; returns how many were rejected of each kind of damage."""
    rejected = {}
    truth = torch.load(io.BytesIO(raw))['state_dict']
    model = Classifier()
    for seed in seeds:
        kind, data = hostile.damaged(raw, np.random.default_rng(seed))
        path = folder / 'damaged.pth'
        path.write_bytes(data)
        before = copies(model)
        try:
            load_checked(model, str(path))
        except CheckpointError as error:
            assert 'damaged.pth' in str(error)
            rejected[kind] = rejected.get(kind, 0) + 1
            assert all(torch.equal(v, before[name]) for name, v in model.state_dict().items())
        else:
            assert all(torch.equal(v, truth[name]) for name, v in model.state_dict().items()), seed
    assert rejected
    return rejected


def assert_programs_are_harmless(folder, seeds):
    """Load a random pickle and a mutation of a real one for each seed; returns how many were rejected."""
    raw = hostile.saved(hostile.run_state(torch.nn.Linear(3, 2)))
    path, rejected, real = folder / 'program.pth', 0, hostile.pickle_of(raw)
    methods = dict(HistoryBuffer._statistics_methods)
    for seed in seeds:
        rng = np.random.default_rng(seed)
        for program in (random_program(rng), mutated_program(real, rng)):
            path.write_bytes(hostile.repacked(raw, data__pkl=program))
            with hostile.canary() as heard, hostile.little_memory():
                try:
                    load_from_file(str(path))
                except CheckpointError as error:
                    assert 'program.pth' in str(error)
                    rejected += 1
            assert not heard, (seed, heard, program)
            assert HistoryBuffer._statistics_methods == methods, (seed, program)
    return rejected


@contextmanager
def small_run(folder):
    """Change to ``folder`` and train there for one epoch, by a config that inherits from the demo."""
    make_digits(folder / 'data/digits', train=4, val=2, test=2, size=96)
    (folder / 'mine.py').write_text(
        f'_base_ = {str(CONFIG)!r}\n'
        'train_cfg = dict(max_epochs=1, val_interval=1)\n'
        'train_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False)\n'
        'val_dataloader = dict(num_workers=0, persistent_workers=False)\n'
        'test_dataloader = val_dataloader\n'
        'model = dict(backbone=dict(base_channels=8), neck=dict(in_channels=[16, 32, 64]))\n'
    )
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert tool('train', 'mine.py', '--work-dir', 'run') is None
        yield folder
    finally:
        os.chdir(before)


def tool(name, *words):
    """Run a tool in this process; returns its exit status or error, None on success."""
    before = sys.argv
    sys.argv = [f'tools/{name}.py', *map(str, words)]
    try:
        runpy.run_path(str(ROOT / 'tools' / f'{name}.py'), run_name='__main__')
    except SystemExit as end:
        return end.code
    finally:
        sys.argv = before
    return None


def spoil(folder, attack):
    """Change one thing of the checkpoint of the run; returns the path of the new file."""
    path = folder / 'epoch_9.pth'
    state = torch.load(folder / 'run' / 'epoch_1.pth')
    marker = f'touch {folder / "marker"}'
    first = next(name for name, value in state['state_dict'].items() if value.ndim == 4)
    if attack == 'code':
        state['meta']['x'] = hostile.Call(os.system, marker)
    elif attack == 'code through getattr':
        state['meta']['x'] = hostile.eval_through('mean', marker)
    elif attack == 'config':
        state['meta']['config'] = f'{hostile.python(marker)}\n'
    elif attack == 'another shape':
        state['state_dict'][first] = state['state_dict'][first][:1].clone()
    elif attack == 'weights alone':
        del state['message_hub'], state['meta'], state['optimizer']
    torch.save(state, path)
    if attack == 'truncated':
        path.write_bytes(path.read_bytes()[:-5000])
    return path


WAYS = {
    '--resume': ('train', '--resume'),
    'load_from': ('train', '--cfg-options'),
    'test': ('test',),
}
"""By name: the tool and the option by which it gets a checkpoint."""


def assert_rejected(folder, path, way):
    """Check that the tool ends by one line with the name of the file, before training, and no code is run."""
    name, *words = WAYS[way]
    file = f'load_from={path}' if way == 'load_from' else path
    with hostile.canary() as heard:
        end = tool(name, 'mine.py', *words, file, '--work-dir', 'new')
    assert str(end).startswith('error: ') and path.name in end and '\n' not in end, end
    assert 'os.system' not in heard
    assert not (folder / 'marker').exists()
    assert not list((folder / 'new').glob('*.pth'))
