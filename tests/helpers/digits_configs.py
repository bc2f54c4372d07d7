"""Configs of the demo set in the folder ``set``, in the layouts of COCO and VOC."""

import json
import re
from pathlib import Path

import pytest
from mmengine.config import Config

from surge_mm.datasets.digits import CLASSES
from surge_mm.preflight.datasets import check_datasets
from surge_mm.utils.errors import DatasetError

LOAD = [{'type': 'LoadImageFromFile'}, {'type': 'LoadAnnotations', 'with_bbox': True}]
PACK = {'type': 'PackDetInputs', 'meta_keys': ('img_id',)}


def coco(split: str, **changes) -> dict:
    return {
        'type': 'CocoDataset',
        'data_root': 'set',
        'ann_file': f'annotations/{split}.json',
        'data_prefix': {'img': 'VOC2007/JPEGImages/'},
        'metainfo': {'classes': CLASSES},
        'pipeline': [*LOAD, PACK],
        'test_mode': split != 'train',
        **changes,
    }


def voc(split: str, **changes) -> dict:
    return {
        **coco(split),
        'type': 'VOCDataset',
        'ann_file': f'VOC2007/ImageSets/Main/{split}.txt',
        'data_prefix': {'sub_data_root': 'VOC2007/'},
        **changes,
    }


def config(train: dict, val: dict | None = None, **rest) -> Config:
    content = {'default_scope': 'mmdet', 'train_dataloader': {'dataset': train}, **rest}
    if val:
        content['val_dataloader'] = {'dataset': val}
    return Config(content)


def total_boxes(folder: Path) -> int:
    """Return the number of boxes of the train split."""
    return len(json.loads((folder / 'annotations/train.json').read_text())['annotations'])


def message_of(cfg: Config, **kwargs) -> str:
    with pytest.raises(DatasetError) as error:
        check_datasets(cfg, **kwargs)
    return str(error.value)


def follow_advice(lines: list[str], cfg: Config) -> int:
    """Insert the steps that warnings advise into the pipelines of a config; return their number."""
    advised = []
    for line in lines:
        advised += re.findall(r'insert (dict\(.*?\)) at index (\d+) of (\S+)\.pipeline', line)
    for step, index, key in sorted(set(advised), key=lambda found: -int(found[1])):
        dataset = cfg
        for part in key.split('.'):
            dataset = dataset[int(part)] if part.isdigit() else dataset[part]
        pipeline = list(dataset.pipeline)
        pipeline.insert(int(index), eval(step))
        dataset.pipeline = pipeline
    return len(set(advised))


def edit_json(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
