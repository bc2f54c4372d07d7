"""Check of a set, and training and evaluation on it."""

import copy
import math
from functools import cache
from pathlib import Path

import torch
from helpers.bad_data import PIXELS
from helpers.digits_configs import follow_advice
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner

from surge_mm.preflight.datasets import Inspection
from surge_mm.preflight.image_consistency import check_images
from surge_mm.utils.errors import DatasetError

CONFIGS = Path(__file__).parents[3] / 'configs/_base_'


@cache
def _config(layout: str, crops: bool) -> Config:
    """Return a config of a very small RetinaNet, which assigns an anchor to every box, on a dataset of our configs."""
    cfg = Config.fromfile(CONFIGS / 'models/retinanet_r18-light.py')
    dataset = 'digits_coco' if layout == 'coco' else 'bccd_voc'
    cfg.merge_from_dict(Config.fromfile(CONFIGS / f'datasets/{dataset}.py').to_dict())
    cfg.default_scope = 'mmdet'
    cfg.model.backbone.base_channels = 8
    cfg.model.neck.update(in_channels=[16, 32, 64], out_channels=16)
    cfg.model.bbox_head.update(in_channels=16, feat_channels=16, stacked_convs=1)
    if crops:
        ssd = Config.fromfile(CONFIGS / 'recipes/ssd300-1bit_vgg16_12e_voc0712.py')
        cfg.train_dataloader.dataset.pipeline = ssd.train_pipeline
    for split in ('train', 'val'):
        loader = cfg[f'{split}_dataloader']
        loader.update(batch_size=3, num_workers=0, persistent_workers=False)
        loader.dataset.metainfo = {'classes': tuple('0123456789')}
        loader.dataset.serialize_data = False  # which collects garbage for a third of a second
        for step in loader.dataset.pipeline:
            if step['type'] == 'Resize':
                step['scale'] = (PIXELS, PIXELS)
        if layout == 'voc':
            loader.dataset.ann_file = f'VOC2007/ImageSets/Main/{split}.txt'
    return cfg


def config_for(folder: Path, layout: str, crops: bool = False, masks: bool = False) -> Config:
    """Return the config of a run on the set in ``folder``, with SSD's crops and with masks if asked for."""
    cfg = copy.deepcopy(_config(layout, crops))
    for split in ('train', 'val'):
        cfg[f'{split}_dataloader'].dataset.data_root = f'{folder}/'
    if layout == 'coco':
        cfg.val_evaluator.ann_file = f'{folder}/annotations/val.json'
    if masks:
        cfg.train_dataloader.dataset.pipeline[1]['with_mask'] = True
    return cfg


def train_through(cfg: Config) -> list[str]:
    """Check the data as tools/check_data.py does, follow its advice, train on every image and evaluate.

    Every loss and every weight must be finite.

    Returns:
        list[str]: counts and warnings of the check.

    Raises:
        DatasetError: if the check refuses the data.
    """
    found = Inspection(cfg, ('train', 'val'))
    lines, problems = found.lines, found.problems
    for key, dataset in found.datasets:
        more, broken = check_images(key, dataset, 'mmdet')
        lines += more
        problems += [f'{path} {defect}' for path, defect in broken.items()]
    if problems:
        raise DatasetError('\n'.join(problems))
    follow_advice(lines, cfg)
    with DefaultScope.overwrite_default_scope('mmdet'):
        torch.manual_seed(0)
        model = MODELS.build(cfg.model)
        model.init_weights()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
        assert len(loader) > 0
        for batch in loader:
            data = model.data_preprocessor(batch, training=True)
            loss, logged = model.parse_losses(model(**data, mode='loss'))
            assert math.isfinite(loss.item()), logged
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert all(p.isfinite().all() for p in model.parameters())
        _evaluate(model.eval(), cfg)
    return lines


@torch.no_grad()
def _evaluate(model: torch.nn.Module, cfg: Config) -> None:
    loader = Runner.build_dataloader(cfg.val_dataloader, seed=0)
    evaluator = Evaluator(cfg.val_evaluator)
    evaluator.dataset_meta = loader.dataset.metainfo
    for batch in loader:
        evaluator.process(model.val_step(batch), batch)
    evaluator.evaluate(len(loader.dataset))
