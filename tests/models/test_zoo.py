"""The first config of every eleventh family of MMDetection's zoo is binarized by the default rules."""

from pathlib import Path

import mmdet
import pytest
import torch
from helpers.narrow import with_fewer_regions
from helpers.samples import detection_batch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from surge_mm.layers import BinaryLayer

ZOO = Path(mmdet.__file__).parent / '.mim' / 'configs'
NO_DETECTORS = ('_base_', 'common', '__pycache__')
OTHER_INPUTS = {
    'deepsort',  # trackers take videos
    'fast_rcnn',  # takes proposals from a file
}


def families():
    """Every eleventh folder; where its model takes something else than images and boxes, the next one."""
    folders = sorted(p for p in ZOO.iterdir() if p.is_dir() and p.name not in NO_DETECTORS)
    for i in range(0, len(folders), 11):
        while folders[i].name in OTHER_INPUTS:
            i += 1
        yield sorted(folders[i].glob('*.py'))[0]


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def without_downloads(cfg):
    """Return the config without weights to download, and with norms that need no ranks."""
    if isinstance(cfg, dict):
        for key in list(cfg):
            if key in ('init_cfg', 'pretrained') and cfg[key] and 'checkpoint' in str(cfg[key]):
                cfg[key] = None
            elif key == 'norm_eval':
                cfg[key] = False  # the statistics would be those of the weights to fetch
            elif key == 'type' and cfg[key] in ('SyncBN', 'MMSyncBN'):
                cfg[key] = 'BN'
            else:
                without_downloads(cfg[key])
    elif isinstance(cfg, (list, tuple)):
        for item in cfg:
            without_downloads(item)
    return cfg


@pytest.mark.parametrize('path', families(), ids=lambda p: p.stem)
def test_every_eleventh_family_becomes_binary_trains_and_predicts(path):
    torch.manual_seed(0)
    cfg = Config.fromfile(path)
    model_cfg = with_fewer_regions(without_downloads(cfg.model))
    base_type = model_cfg.pop('type')
    model = MODELS.build({**model_cfg, 'type': 'surge_mm.Binarized', 'base_type': base_type})
    layers = {name: m for name, m in model.named_modules() if isinstance(m, BinaryLayer)}
    assert len(layers) >= 9
    assert all(layer.weight.requires_grad for layer in layers.values())
    signs = {}
    for name, layer in layers.items():
        layer.register_forward_pre_hook(
            lambda _, inputs, name=name: signs.setdefault(name, set()).update(
                inputs[0].sign().unique().tolist()
            )
        )
    model.train()
    batch = detection_batch(with_masks=True)
    total, _ = model.parse_losses(model(**model.data_preprocessor(batch, True), mode='loss'))
    total.backward()
    assert total.isfinite()
    assert set(signs) == set(layers)  # no layer is passed over
    assert all({-1, 1} <= seen for seen in signs.values())
    for name, layer in layers.items():
        assert layer.aux_weight.grad is not None, name
    torch.optim.SGD(model.parameters(), lr=1e-4).step()
    model.eval()
    with torch.no_grad():
        predicted = model.test_step(detection_batch())
    assert len(predicted) == 2
    assert all(hasattr(one, 'pred_instances') for one in predicted)
