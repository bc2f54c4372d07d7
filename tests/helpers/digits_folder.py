"""A user's folder with digits, a config of a narrow detector, and a checkpoint of it."""

from pathlib import Path

import torch
from helpers.packed_files import trained_model
from mmengine.config import Config

from surge_mm.datasets.digits import CLASSES, make_digits

DEMO = Path(__file__).parents[2] / 'configs/demo/surge_fcos-1bit_r18-light_10e_digits.py'
NARROW = (
    'model = dict(backbone=dict(base_channels=8), neck=dict(in_channels=[16, 32, 64], out_channels=16),\n'
    '    bbox_head=dict(in_channels=16, feat_channels=16), test_cfg=dict(score_thr=0.0))\n'
    'val_dataloader = dict(num_workers=0, persistent_workers=False)\n'
    'test_dataloader = val_dataloader\n'
)


def make_digits_folder(folder):
    """Write a few digits, ``mine.py`` based on the demo's config, and ``epoch_1.pth`` as of a run with EMA."""
    make_digits(folder / 'data/digits', train=8, val=4, test=2, size=96)
    (folder / 'mine.py').write_text(f'_base_ = {str(DEMO)!r}\n{NARROW}')
    model = trained_model(Config.fromfile(folder / 'mine.py'))
    other = {f'module.{name}': torch.zeros_like(v) for name, v in model.state_dict().items()}
    checkpoint = {
        'meta': {'dataset_meta': {'CLASSES': CLASSES, 'note': 'of the run'}},
        'state_dict': model.state_dict(),  # the averaged weights, as EMAHook saves them
        'ema_state_dict': other,
    }
    torch.save(checkpoint, folder / 'epoch_1.pth')
    return folder
