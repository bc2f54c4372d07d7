"""Heads whose outputs distillation compares, and those that it leaves out."""

from unittest import mock

import pytest
from helpers.distillation import TERMS, detector, distilled, losses_of, save_teacher, student
from helpers.narrow import config
from mmengine.config import ConfigDict

from surge_mm.models.detectors.head_pairs import find_pairs


@pytest.mark.parametrize(
    'head, expected, left_out',
    [
        ('gfl', TERMS[:2], 'loss_distill_bbox: the boxes of GFLHead are no deltas'),
        (
            'yolox',
            TERMS[:1],
            'loss_distill_cls, loss_distill_bbox: the outputs of YOLOXHead have a form of their own',
        ),
    ],
)
def test_what_a_head_of_another_form_leaves_out_is_logged(head, expected, left_out, tmp_path):
    cfg = detector(head)
    model = student(cfg, save_teacher(tmp_path, cfg))
    with mock.patch('surge_mm.models.detectors.distilled_detector.log') as log:
        assert list(distilled(losses_of(model))) == expected
        losses_of(model)
    log.assert_called_once_with(f'distillation without {left_out}')


def test_boxes_of_regions_that_are_no_deltas_are_left_out_and_logged(tmp_path):
    cfg = config('faster-rcnn-1bit_r18_fpn', tmp_path, tmp_path).model
    cfg.roi_head.bbox_head.with_reg = False
    model = student(cfg, save_teacher(tmp_path, cfg))
    pairs, left_out = find_pairs(model, model.teacher)
    assert [pair.with_boxes for pair in pairs] == [True, False]
    assert left_out == ['loss_distill_bbox: the boxes of Shared2FCBBoxHead are no deltas']


def test_heads_of_regions_with_a_form_of_their_own_are_left_out_and_logged(tmp_path):
    cfg = config('faster-rcnn-1bit_r18_fpn', tmp_path, tmp_path).model
    channels = cfg.neck.out_channels
    cfg.roi_head.bbox_head = ConfigDict(
        type='mmdet.SABLHead',
        num_classes=3,
        cls_in_channels=channels,
        reg_in_channels=channels,
        cls_out_channels=16,
        reg_offset_out_channels=16,
        reg_cls_out_channels=16,
    )
    model = student(cfg, save_teacher(tmp_path, cfg))
    pairs, left_out = find_pairs(model, model.teacher)
    assert [pair.name for pair in pairs] == ['loss_distill_rpn_{}']
    assert left_out == [
        'loss_distill_cls, loss_distill_bbox: StandardRoIHead have a form of their own'
    ]


def test_the_head_of_an_ssd_of_mmdetection_has_a_teacher(tmp_path):
    cfg = config('ssd300-1bit_vgg16', tmp_path, tmp_path).model
    cfg.bbox_head.type = 'mmdet.SSDHead'
    model = student(cfg, save_teacher(tmp_path, cfg))
    assert list(distilled(losses_of(model))) == TERMS
