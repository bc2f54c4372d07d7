"""Boxes of heads in C against ``predict_by_feat`` of MMDetection, from the same maps."""

import ctypes
import functools

import numpy as np
import pytest
import torch
from helpers.c_code import COMPILER, compiled, guarded, pointer
from helpers.narrow import CONFIGS, NARROW, flat
from mmengine.config import Config
from mmengine.registry import init_default_scope

from surge_mm.deploy.c.heads import c_head, head_of
from surge_mm.deploy.predict.box_decoding import BoxDecoder
from surge_mm.launch.runner import build_model
from surge_mm.utils.errors import UsageError

pytestmark = pytest.mark.skipif(COMPILER is None, reason='no C compiler')

WRAPPER = """
typedef struct { const float *values; int height, width, channels; } surge_map;
typedef struct { float x1, y1, x2, y2, score; int label; } surge_box;
"""
CALL = """
int boxes_of(const surge_map *maps, const surge_sizes *sizes, surge_box *out, int max, void *workspace)
{
    return surge_boxes(&head, maps, sizes, out, max, workspace);
}
"""
HEADS = {
    'fcos': ('fcos-1bit_r18_fpn', {}),
    'retinanet': ('retinanet-1bit_r18_fpn', {}),
    'rtmdet': ('rtmdet-1bit_r18', {}),
    'ssd': ('ssd300-1bit_vgg16', {}),
    'stds': (
        'retinanet-1bit_r18_fpn',
        {
            'bbox_head.bbox_coder': {
                'target_means': (0.1, -0.1, 0.2, 0.0),
                'target_stds': (0.1, 0.1, 0.2, 0.2),
                'clip_border': False,
            },
            'test_cfg.nms_pre': 40,
            'test_cfg.min_bbox_size': 9,
        },
    ),
    'all candidates': ('fcos-1bit_r18_fpn', {'test_cfg.nms_pre': -3, 'test_cfg.score_thr': 0.0}),
    'few': ('fcos-1bit_r18_fpn', {'test_cfg.max_per_img': 3, 'test_cfg.nms.split_thr': 50}),
    'agnostic': ('fcos-1bit_r18_fpn', {'test_cfg.nms.class_agnostic': True}),
}
SHAPE = (70, 90)
PICTURE = (133, 175)


@functools.cache
def model_of(name):
    """Return a narrow detector."""
    family, changes = HEADS[name]
    (path,) = CONFIGS.glob(f'*/ste_{family}_*_coco.py')
    cfg = Config.fromfile(path)
    model = {f'model.{key}': value for key, value in (*flat(NARROW[family]), *changes.items())}
    cfg.merge_from_dict(model, allow_list_keys=True)
    init_default_scope('mmdet')
    return build_model(cfg).eval()


def maps_of(model, seed, spread=2.0):
    """Return random maps of a head for an image of SHAPE: scores, boxes and factors, each of all levels."""
    generator = torch.Generator().manual_seed(seed)
    head = model.bbox_head
    is_distance = type(head.bbox_coder).__name__ == 'DistancePointBBoxCoder'
    maps = [[], []]
    if hasattr(head, 'conv_centerness'):
        maps.append([])
    for (stride, _), priors in zip(
        head.prior_generator.strides, head.prior_generator.num_base_priors, strict=True
    ):
        size = [-(-side // stride) for side in SHAPE]
        numbers = [
            torch.randn(1, priors * channels, *size, generator=generator) * spread
            for channels in (head.cls_out_channels, 4, 1)
        ]
        numbers[0] -= 3
        if is_distance:
            numbers[1] = numbers[1].exp() * stride / 2
        for kind, values in zip(maps, numbers, strict=False):
            kind.append(values)
    return maps


class Map(ctypes.Structure):
    _fields_ = [
        ('values', ctypes.c_void_p),
        *((name, ctypes.c_int) for name in ('height', 'width', 'channels')),
    ]


class InC:
    def __init__(self, folder, model, n_maps):
        self.head = head_of(model, n_maps)
        parts = 'layers.h', 'resize.c', WRAPPER, 'boxes.c', c_head(self.head, 'head'), CALL
        self.library = compiled(folder, *parts)

    def __call__(self, maps, limit=1000):
        """Return boxes (n, 4), scores (n,) and labels (n,) of maps."""
        flat_maps = [values for kind in maps for values in kind]
        arrays = [np.ascontiguousarray(m[0].permute(1, 2, 0).numpy()) for m in flat_maps]
        given = (Map * len(arrays))(*(Map(a.ctypes.data, *a.shape) for a in arrays))
        (height, width), (ori_height, ori_width) = SHAPE, PICTURE
        sizes = (ctypes.c_int * 8)(ori_width, ori_height, width, height, width, height, 96, 96)
        workspace, untouched = guarded(
            self.head.workspace([a.shape[:2] for a in arrays[: len(maps[0])]])
        )
        out, no_more = guarded(24 * min(limit, self.head.max_boxes))
        n = self.library.boxes_of(given, sizes, pointer(out), limit, pointer(workspace))
        untouched()
        no_more()
        found = out[: 24 * n].view(np.float32).reshape(-1, 6)
        return found[:, :4], found[:, 4], found[:, 5].view(np.int32)


def expected_of(model, maps):
    meta = {
        'img_shape': SHAPE,
        'ori_shape': PICTURE,
        'scale_factor': (SHAPE[1] / PICTURE[1], SHAPE[0] / PICTURE[0]),
    }
    with torch.inference_mode():
        (found,) = model.bbox_head.predict_by_feat(*maps, batch_img_metas=[meta], rescale=True)
    return found.bboxes.numpy(), found.scores.numpy(), found.labels.numpy()


@pytest.mark.parametrize('name', HEADS)
def test_boxes_equal_those_of_the_host_from_the_same_maps(name, tmp_path):
    model = model_of(name)
    maps = maps_of(model, 0)
    in_c = InC(tmp_path, model, sum(map(len, maps)))
    for seed in range(5):
        maps = maps_of(model, seed)
        boxes, scores, labels = expected_of(model, maps)
        found_boxes, found_scores, found_labels = in_c(maps)
        assert len(boxes) > 2
        assert found_labels.tolist() == labels.tolist()
        np.testing.assert_allclose(found_scores, scores, rtol=0, atol=1e-6)
        np.testing.assert_allclose(found_boxes, boxes, rtol=0, atol=1e-3)
    assert len(in_c(maps, limit=2)[0]) == 2
    low = [[values - 100 for values in maps[0]], *maps[1:]]
    if name not in ('ssd', 'all candidates'):
        assert len(in_c(low)[0]) == len(expected_of(model, low)[0]) == 0


@pytest.mark.parametrize('name', ['fcos', 'retinanet'])
def test_equal_scores_give_the_boxes_of_the_packed_model(name, tmp_path):
    model = model_of(name)
    maps = [[values.round() for values in kind] for kind in maps_of(model, 1)]
    in_c = InC(tmp_path, model, sum(map(len, maps)))
    scale = (SHAPE[1] / PICTURE[1], SHAPE[0] / PICTURE[0])
    with torch.inference_mode():
        boxes, scores, labels = BoxDecoder.of(model).decode(maps, SHAPE, scale)
    found_boxes, _, found_labels = in_c(maps)
    assert len(set(scores.tolist())) < len(scores)
    assert found_labels.tolist() == labels.tolist()
    np.testing.assert_allclose(found_boxes, boxes, rtol=0, atol=1e-3)


def test_numbers_that_are_not_finite_stay_within_the_buffers(tmp_path):
    model = model_of('retinanet')
    maps = maps_of(model, 0)
    in_c = InC(tmp_path, model, sum(map(len, maps)))
    for value in (np.nan, np.inf, -np.inf, 3e38):
        for kind in maps:
            for values in kind:
                values[torch.rand(values.shape) < 0.3] = value
        in_c(maps)


@pytest.mark.parametrize(
    ('changes', 'named'),
    [
        ({'test_cfg.nms': {'type': 'soft_nms', 'iou_threshold': 0.5}}, 'soft_nms'),
        ({'test_cfg.nms.max_num': 7}, 'max_num'),
        ({'bbox_head.bbox_coder.type': 'TBLRBBoxCoder'}, 'TBLRBBoxCoder'),
        ({'bbox_head.bbox_coder.add_ctr_clamp': True}, 'add_ctr_clamp'),
        ({'test_cfg.max_per_img': -1}, 'max_per_img=-1'),
    ],
)
def test_an_option_without_a_form_in_c_is_named(changes, named, monkeypatch):
    monkeypatch.setitem(HEADS, 'bad', ('retinanet-1bit_r18_fpn', changes))
    with pytest.raises(UsageError, match=named):
        head_of(model_of.__wrapped__('bad'), 10)


def test_a_two_stage_detector_is_named(monkeypatch):
    monkeypatch.setitem(HEADS, 'bad', ('faster-rcnn-1bit_r18_fpn', {}))
    with pytest.raises(UsageError, match='FasterRCNN is no one-stage detector'):
        head_of(model_of.__wrapped__('bad'), 10)
