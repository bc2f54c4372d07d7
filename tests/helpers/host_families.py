"""The configs of MMDetection, one of each folder: built, made binary, and run packed."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import mmdet
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from surge_mm.datasets.evaluation_set import image_size
from surge_mm.deploy import pack, strip
from surge_mm.deploy.packed_file.trial_run import largest_difference, outputs_on_image
from surge_mm.layers import BinaryLayer
from surge_mm.layers.memory_format import to_channels_last
from surge_mm.utils.errors import LaunchError
from surge_mm.utils.hosts import model_config

ROOT = Path(mmdet.__file__).parent / '.mim/configs'
NO_FAMILIES = ('_base_', 'common')
HUGE = ('v3det',)
"""Folders whose models predict tens of millions of boxes from random weights, for 13,204 classes."""
FAMILIES = sorted(
    path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in (*NO_FAMILIES, *HUGE)
)
ATTEMPTS = 4
"""Configs of a folder that are tried. The others mostly have the same class of model."""
SMALL = (128, 128)
DOWNLOADS = ('init_cfg', 'pretrained', 'teacher_ckpt')


def difference_of(family: str) -> tuple[float | None, str]:
    """Return the largest relative difference between the outputs of the binary and of the packed model of a family.

    Args:
        family (str): A folder of the configs.

    Returns:
        tuple[float | None, str]: The difference, None if no model of the folder could be built and run in full
        precision sums; and the name of the config, or the reason.
    """
    reason = 'no config'
    for path in sorted((ROOT / family).glob('*.py'))[:ATTEMPTS]:
        try:
            cfg = Config.fromfile(path)
            model = _binary_model(cfg)
            size, reference = _reference(model, cfg)
        except Exception as error:  # without compiled operators, a download, or a sample with text
            message = re.sub(
                r'\S*/\S*', '...', ' '.join(str(error).split())
            )  # no paths of this machine
            reason = f'{type(error).__name__}: {message:.80}'
            continue
        pack(model)
        return largest_difference(reference, outputs_on_image(model, size)), path.stem
    return None, reason


def _binary_model(cfg: Config) -> nn.Module:
    settings = ConfigDict(_offline(model_config(cfg).to_dict()))
    base = settings.pop('type')
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope') or 'mmdet'):
        model = MODELS.build({'type': 'surge_mm.Binarized', 'base_type': base, **settings})
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
    assert any(isinstance(module, BinaryLayer) for module in model.modules())
    model.eval()
    return model


def _offline(value: Any) -> Any:
    """Return a config without the sources of initial weights, and without norms that need ranks."""
    if value in ('SyncBN', 'MMSyncBN'):
        return 'BN'
    if isinstance(value, dict):
        return {key: _offline(inner) for key, inner in value.items() if key not in DOWNLOADS}
    return type(value)(map(_offline, value)) if isinstance(value, (list, tuple)) else value


def _reference(model: nn.Module, cfg: Config) -> tuple[tuple[int, int], dict[str, torch.Tensor]]:
    """Return the size of an image on which the binary model runs, and its outputs."""
    reference = strip(to_channels_last(copy.deepcopy(model)))
    try:
        return SMALL, outputs_on_image(reference, SMALL)
    except Exception:  # the model is made for images of one size
        try:
            size = image_size(cfg)
        except LaunchError:
            size = (320, 320)
        return size, outputs_on_image(reference, size)
