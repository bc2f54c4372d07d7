"""A user's folder with a few digits and a config that inherits from the demo's, and tools run there."""

import importlib.util
import sys
from pathlib import Path

from helpers.tools import forget_runs

from surge_mm.datasets.digits import make_digits

ROOT = Path(__file__).parents[2]
SURGE = ROOT / 'configs' / 'demo' / 'surge_fcos-1bit_r18-light_10e_digits.py'


def make_user_folder(folder):
    make_digits(folder / 'data/digits', train=24, val=4, test=2, size=96)
    (folder / 'rank_hook.py').write_text(
        'import torch\n'
        'from mmengine.dist import get_rank\n'
        'from mmengine.hooks import Hook\n'
        'from mmengine.registry import HOOKS\n'
        '@HOOKS.register_module()\n'
        'class RankHook(Hook):\n'
        '    def after_train(self, runner):\n'
        "        torch.save(runner.model.state_dict(), f'{runner.work_dir}/rank{get_rank()}.pt')\n"
    )
    (folder / 'mine.py').write_text(
        f'_base_ = {str(SURGE)!r}\n'
        'train_cfg = dict(max_epochs=2, val_interval=2)\n'
        'train_dataloader = dict(batch_size=4, num_workers=0, persistent_workers=False)\n'
        'val_dataloader = dict(num_workers=0, persistent_workers=False)\n'
        'test_dataloader = val_dataloader\n'
        'default_hooks = dict(logger=dict(interval=1))\n'
        'model = dict(backbone=dict(base_channels=8), neck=dict(in_channels=[16, 32, 64]))\n'
    )
    return folder


def main_of(tool, monkeypatch, folder, *arguments):
    """Run a tool's main in this process, from ``folder``."""
    forget_runs()
    spec = importlib.util.spec_from_file_location(tool, ROOT / 'tools' / f'{tool}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, 'argv', [f'{tool}.py', *map(str, arguments)])
    module.main()


def write(folder, name, text):
    """Write a config that inherits from mine.py, and return its name."""
    (folder / name).write_text(f'_base_ = {str(folder / "mine.py")!r}\n{text}\n')
    return name
