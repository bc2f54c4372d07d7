"""Options of an evaluation, on configs."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
from mmdet.evaluation import DumpDetResults, MultiDatasetsEvaluator
from mmdet.models.test_time_augs import DetTTAModel
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import TRANSFORMS, DefaultScope
from torch import nn

from surge_mm.launch.evaluation import augment_test, check_merged, dump_predictions
from surge_mm.utils.errors import LaunchError

BOX = [3.0, 5.0, 20.0, 9.0]


def leaf(size, **settings):
    """Return a data set whose boxes are read behind the resizing, in pixels of the image as it was."""
    pipeline = [
        {'type': 'Resize', 'scale': size},
        {'type': 'LoadAnnotations', 'with_bbox': True},
        {'type': 'PackDetInputs', 'meta_keys': ('img_id', 'img_shape', 'ori_shape')},
    ]
    return {'type': 'CocoDataset', 'pipeline': pipeline, **settings}


def config(dataset):
    return Config(
        {
            'default_scope': 'mmdet',
            'model': {'type': 'FCOS'},
            'test_dataloader': {'dataset': dataset},
        }
    )


def views(pipeline):
    """Return the data samples of one image, from the image as it is read."""
    image = {
        'img': np.zeros((40, 60, 3), np.uint8),
        'img_id': 0,
        'img_shape': (40, 60),
        'ori_shape': (40, 60),
        'instances': [{'bbox': BOX, 'bbox_label': 0, 'ignore_flag': 0}],
    }
    with DefaultScope.overwrite_default_scope('mmdet'):
        for step in copy.deepcopy(pipeline):
            image = TRANSFORMS.build(step)(image)
    return image['data_samples']


def test_the_ground_truth_of_a_merged_sample_is_that_of_the_image_as_it_is():
    """DetTTAModel gives its boxes to the sample of the first view, whose ground truth VOCMetric reads."""
    cfg = config(leaf((120, 80)))
    augment_test(cfg)
    first, second = views(cfg.test_dataloader.dataset.pipeline)
    assert not first.flip and second.flip
    assert first.gt_instances.bboxes.tensor.tolist() == [BOX]


def test_each_data_set_keeps_its_own_pipeline():
    cfg = config({'type': 'ConcatDataset', 'datasets': [leaf((64, 32)), leaf((30, 30))]})
    augment_test(cfg)
    sets = cfg.test_dataloader.dataset.datasets
    assert [views(one.pipeline)[0].img_shape for one in sets] == [(32, 64), (30, 30)]


def test_the_pipeline_of_the_config_is_that_of_all_data_sets():
    cfg = config({'type': 'ConcatDataset', 'datasets': [leaf((64, 32)), {'type': 'CocoDataset'}]})
    with pytest.raises(LaunchError, match='--tta needs tta_model and tta_pipeline'):
        augment_test(cfg)
    cfg.tta_pipeline = [{'type': 'LoadImageFromFile'}]
    augment_test(cfg)
    assert all(one.pipeline == cfg.tta_pipeline for one in cfg.test_dataloader.dataset.datasets)


class Masks(nn.Module):
    """A detector whose head for masks is where MMDetection has it."""

    def __init__(self, path):
        super().__init__()
        *parents, name = path.split('.')
        holder = self
        for parent in parents:
            holder.add_module(parent, nn.Module())
            holder = holder.get_submodule(parent)
        holder.add_module(name, nn.Conv2d(1, 1, 1))

    def test_step(self, data):
        return data


@pytest.mark.parametrize(
    'path',
    ['roi_head.mask_head', 'mask_head', 'bbox_head.mask_head', 'panoptic_head'],
    ids=['Mask R-CNN', 'SOLO', 'RTMDet-Ins', 'MaskFormer'],
)
def test_a_detector_with_masks_is_refused_by_the_merging_of_boxes(path):
    check_merged(Masks(path))
    check_merged(DetTTAModel(module=Masks('bbox_head.cls_convs')))
    with pytest.raises(LaunchError, match='merges boxes, but Masks also predicts masks'):
        check_merged(DetTTAModel(module=Masks(path)))


def test_an_evaluator_of_several_data_sets_writes_no_predictions():
    def run(evaluator):
        return SimpleNamespace(cfg=Config({'default_scope': 'mmdet'}), test_evaluator=evaluator)

    plain, several = Evaluator([]), MultiDatasetsEvaluator([], ['a', 'b'])
    dump_predictions(run(plain), 'found.pkl')
    assert isinstance(plain.metrics[0], DumpDetResults)
    with pytest.raises(LaunchError, match="--out 'found.pkl': MultiDatasetsEvaluator has one"):
        dump_predictions(run(several), 'found.pkl')
