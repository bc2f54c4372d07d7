"""What a config says of its images."""

import numpy as np
import pytest
import torch
from mmcv import imwrite
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from mmpretrain.registry import TRANSFORMS

from surge_mm.datasets.evaluation_set import (
    dataset_meta,
    evaluation_pipeline,
    evaluation_set,
    image_size,
)
from surge_mm.utils.errors import LaunchError

SET = {'type': 'CocoDataset', 'pipeline': [{'type': 'Resize', 'scale': (320, 200)}]}


def config(dataset, split='test', scope='mmdet'):
    return Config({'default_scope': scope, f'{split}_dataloader': {'dataset': dataset}})


@pytest.mark.parametrize('split', ['test', 'val'])
@pytest.mark.parametrize(
    'wrapped',
    [
        SET,
        {'type': 'RepeatDataset', 'times': 2, 'dataset': SET},
        {'type': 'ConcatDataset', 'datasets': [SET, {'type': 'Other'}]},
    ],
)
def test_the_set_is_found_in_its_wrappers(wrapped, split):
    cfg = config(wrapped, split)
    assert evaluation_set(cfg) == SET
    assert evaluation_pipeline(cfg) == SET['pipeline']
    assert image_size(cfg) == (200, 320)


@pytest.mark.parametrize(
    'step, size',
    [
        ({'type': 'Resize', 'scale': 64}, (64, 64)),
        ({'type': 'Resize', 'scale': (320, 640)}, (640, 320)),
        ({'type': 'Resize', 'scale': (320, 640), 'keep_ratio': True}, (320, 640)),
        ({'type': 'Resize', 'scale': (640, 320), 'keep_ratio': True}, (320, 640)),
        ({'type': 'Pad', 'size': (300, 200)}, (200, 300)),
        ({'type': 'mmpretrain.CenterCrop', 'crop_size': 224}, (224, 224)),
        ({'type': 'CenterCrop', 'crop_size': (10, 20)}, (10, 20)),
    ],
)
def test_the_last_step_that_sets_a_size_counts(step, size):
    steps = [{'type': 'Resize', 'scale': (1, 2)}, step, {'type': 'PackInputs'}]
    assert image_size(config({'type': 'A', 'pipeline': steps})) == size


def test_a_pipeline_of_no_size_asks_for_the_shape():
    for cfg in (config({'type': 'A', 'pipeline': [{'type': 'Pack'}]}), Config({'model': {}})):
        with pytest.raises(LaunchError, match='add --shape HEIGHT WIDTH'):
            image_size(cfg)


@pytest.mark.parametrize('size', [16, 32])
def test_the_pipeline_of_cifar_tensors_gives_what_the_dataset_holds(size, tmp_path):
    cfg = config({'type': 'surge_mm.CIFAR10Tensor', 'data_root': 'x', 'size': size})
    assert image_size(cfg) == (size, size)
    bgr = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    imwrite(bgr, str(tmp_path / 'a.png'))
    with DefaultScope.overwrite_default_scope('mmengine'):
        steps = Compose([TRANSFORMS.build(step) for step in evaluation_pipeline(cfg)])
    found = steps({'img_path': str(tmp_path / 'a.png')})['inputs']
    assert torch.equal(found, torch.from_numpy(bgr[..., ::-1].copy()).permute(2, 0, 1))


def test_classes_are_those_of_the_set_and_need_no_data():
    assert len(dataset_meta(config({'type': 'VOCDataset', 'data_root': 'no'}))['classes']) == 20
    own = {**SET, 'metainfo': {'classes': ('a', 'b')}}
    assert dataset_meta(config(own))['classes'] == ('a', 'b')
    assert dataset_meta(config({'type': 'surge_mm.CIFAR10Tensor'}))['classes'][0] == 'airplane'
    glue = {'type': 'surge_mm.GlueDataset', 'task': 'sst2', 'data_root': 'no'}
    assert dataset_meta(config(glue)) == {'task': 'sst2', 'classes': ('negative', 'positive')}
    assert dataset_meta(Config({'model': {}})) == {}
