"""Detector on arrays and files, against ``inference_detector`` of MMDetection."""

import copy
import pickle

import cv2
import numpy as np
import pytest
import torch
from helpers.narrow import CONFIGS, NARROW, flat
from helpers.packed_files import (
    NARROW_FCOS,
    classifier_config,
    config_of,
    detector_config,
    packed_file,
)
from matplotlib.text import Text
from mmdet.apis import inference_detector
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData

from surge_mm.deploy import Detector, load_packed, pack
from surge_mm.deploy.packed_file.format import read_packed
from surge_mm.deploy.predict.predictor import Predictor
from surge_mm.launch.runner import build_model
from surge_mm.utils.errors import UsageError

SIZES = [(h, w) for h in (17, 40, 96, 130) for w in (23, 64, 96, 128, 211)]  # 20
RESIZE = {'type': 'Resize', 'scale': (96, 64), 'keep_ratio': True}
BCCD = 'bccd/ste_retinanet-1bit_r18-light_40e_bccd.py'


def of_coco(family, *steps):
    """Return the narrow config of a detector for COCO, with small images and these steps of the test pipeline."""
    (path,) = CONFIGS.glob(f'*/ste_{family}_*_coco.py')
    cfg = Config.fromfile(path)
    model = {f'model.{key}': value for key, value in flat(NARROW[family])}
    cfg.merge_from_dict(model, allow_list_keys=True)
    first, last = cfg.test_dataloader.dataset.pipeline[0], cfg.test_dataloader.dataset.pipeline[-1]
    cfg.test_dataloader.dataset.pipeline = [first, *steps, last]
    return cfg


CONFIGS_OF = {
    'demo': detector_config,
    'bccd': lambda: config_of(BCCD, NARROW_FCOS),
    'retinanet': lambda: of_coco('retinanet-1bit_r18_fpn', RESIZE),
    'fcos': lambda: of_coco('fcos-1bit_r18_fpn', {**RESIZE, 'keep_ratio': False}),
    'rtmdet': lambda: of_coco(
        'rtmdet-1bit_r18', RESIZE, {'type': 'Pad', 'size': (96, 96), 'pad_val': {'img': 114}}
    ),
    'ssd': lambda: of_coco(
        'ssd300-1bit_vgg16', {'type': 'Resize', 'scale': (128, 128), 'keep_ratio': False}
    ),
    'faster-rcnn': lambda: of_coco('faster-rcnn-1bit_r18_fpn', RESIZE),
}


def image(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def confident(cfg):
    """Build a packed detector whose scores are not all small."""
    for part in (cfg.model.test_cfg, cfg.model.test_cfg.get('rcnn')):
        if part and 'score_thr' in part:
            part.score_thr = 0.02
    torch.manual_seed(0)
    model = build_model(cfg)
    for name, parameter in model.named_parameters():
        if name.endswith('bias') and any(
            part in name for part in ('conv_cls', 'retina_cls', 'rtm_cls')
        ):
            torch.nn.init.normal_(parameter, -2.0, 0.5)
        elif name.endswith('bias') and 'rtm_reg' in name:
            torch.nn.init.constant_(parameter, 2.0)
        elif name.endswith(
            'l2_norm.weight'
        ):  # SSD's has whatever the memory held until init_weights
            torch.nn.init.constant_(parameter, 20.0)
    model = pack(model)
    model.cfg = cfg
    model.dataset_meta = {'classes': ('a', 'b')}
    return model


def assert_same(found, expected):
    expected = expected.pred_instances
    for values, name in zip(found, ('bboxes', 'scores', 'labels'), strict=True):
        np.testing.assert_array_equal(values, expected[name].numpy(), err_msg=name)
        assert values.dtype == expected[name].numpy().dtype


@pytest.mark.parametrize('name', CONFIGS_OF)
def test_boxes_are_those_of_inference_detector_to_the_bit(name):
    model = confident(CONFIGS_OF[name]())
    expected = [inference_detector(model, image(size)) for size in SIZES]
    detector = Detector(model)
    assert detector.image_input.is_plain
    assert (detector.decoder is None) == (name == 'faster-rcnn')
    for size, sample in zip(SIZES, expected, strict=True):
        assert_same(detector(image(size)), sample)
    for size, sample in zip(SIZES[::9] * 3, expected[::9] * 3, strict=True):  # by its operations
        assert_same(detector(image(size)), sample)
    assert sum(len(sample.pred_instances) for sample in expected) > 20 * len(SIZES)


def test_the_detector_of_a_file_runs_without_its_modules_from_the_third_image_of_a_size_on(
    tmp_path,
):
    path = packed_file(detector_config(), tmp_path / 'a.safetensors')
    assert Config(read_packed(path).config).model.type == 'surge_mm.Binarized'
    detector, calls = Detector(path), []
    found = [detector(image((40, 64))) for _ in range(2)]
    forward = detector.model.backbone.forward
    detector.model.backbone.forward = lambda x: calls.append(1) or forward(x)
    found.append(detector(image((40, 64))))
    assert not calls
    for values in zip(*found, strict=True):
        np.testing.assert_array_equal(values[2], values[0])


def test_a_file_of_an_image_is_read_as_the_test_pipeline_reads_it(tmp_path):
    path = packed_file(detector_config(), tmp_path / 'detector.safetensors')
    cv2.imwrite(str(tmp_path / 'a.jpg'), image((90, 70)))
    detector = Detector(path)
    found = detector(tmp_path / 'a.jpg')
    assert_same(found, inference_detector(load_packed(path), str(tmp_path / 'a.jpg')))
    assert detector.classes == tuple('0123456789')
    with pytest.raises(UsageError, match='nowhere.jpg'):
        detector('nowhere.jpg')


def test_a_pipeline_with_another_step_and_other_loaders_run_as_the_host_runs_them(tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), image((90, 70)))
    crop = {'type': 'CenterCrop', 'crop_size': (48, 48)}
    for steps, loader in (
        ([RESIZE, crop], {}),
        ([RESIZE], {'to_float32': True}),
        ([RESIZE], {'color_type': 'unchanged'}),
        ([RESIZE], {'ignore_empty': True}),
    ):
        cfg = of_coco('fcos-1bit_r18_fpn', *steps)
        cfg.test_dataloader.dataset.pipeline[0].update(loader)
        model = confident(cfg)
        detector = Detector(model)
        assert not detector.image_input.is_plain
        for given in (str(tmp_path / 'a.png'), image((90, 70))):
            assert_same(detector(given), inference_detector(model, given))


@pytest.mark.parametrize(
    'changes',
    [
        {'nms': {'type': 'soft_nms', 'iou_threshold': 0.5}},
        {'nms': {'type': 'nms', 'iou_threshold': 0.5, 'class_agnostic': True}},
        {'min_bbox_size': 6, 'max_per_img': 7},
        {'score_thr': 0.999},
    ],
)
def test_settings_of_the_decoding_have_the_effect_that_they_have_in_the_host(changes):
    model = confident(detector_config())
    model.bbox_head.test_cfg.update(changes)
    sample = inference_detector(model, image((96, 96)))
    assert_same(Detector(model)(image((96, 96))), sample)
    assert bool(len(sample.pred_instances)) == ('score_thr' not in changes)


def test_score_thr_and_channel_order():
    model = confident(detector_config())
    pixels = image((64, 64))
    every = Detector(model)(pixels)
    limit = float(np.median(every.scores))
    some = Detector(model, score_thr=limit)(pixels)
    assert 0 < len(some.scores) < len(every.scores) and some.scores.min() >= limit
    kept = every.scores >= limit
    np.testing.assert_array_equal(some.boxes, every.boxes[kept])
    np.testing.assert_array_equal(
        Detector(model, channel_order='rgb')(pixels[..., ::-1]).boxes, every.boxes
    )


def test_priors_are_made_once_for_a_size_and_a_copy_of_the_model_makes_its_own(monkeypatch):
    model = confident(detector_config())
    generator = model.bbox_head.prior_generator
    calls = []
    make = type(generator).grid_priors
    monkeypatch.setattr(
        type(generator), 'grid_priors', lambda *a, **k: calls.append(a[0]) or make(*a, **k)
    )
    detector = Detector(model)
    for size in ((64, 64), (64, 64), (96, 32), (64, 64)):
        detector(image(size))
    assert calls == [generator] * 2
    other = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    assert_same(detector(image((32, 96))), inference_detector(other, image((32, 96))))
    assert calls[2:] == [generator, other.bbox_head.prior_generator]


@pytest.mark.parametrize(
    ('value', 'message'),
    [
        ([1, 2], 'image is a list. It must be a NumPy array'),
        (np.zeros((8, 8), np.uint8), 'COLOR_GRAY2BGR'),
        (np.zeros((8, 8, 4), np.uint8), r'image\[..., :3\]'),
        (np.zeros((3, 8, 8), np.uint8), 'transpose'),
        (np.zeros((0, 8, 3), np.uint8), 'at least one pixel'),
        (
            np.zeros((3, 900, 3), np.uint8),
            r'image of 3 x 900 pixels \(H x W\): .* Crop it, or pad',
        ),
        (np.zeros((8, 8, 3), np.float32), 'dtype float32, which must be uint8'),
    ],
)
def test_an_image_of_another_kind_is_an_error_that_names_the_way_out(value, message):
    detector = Detector(confident(detector_config()))
    with pytest.raises(UsageError, match=message):
        detector(value)


def test_wrong_arguments_are_errors(tmp_path):
    model = confident(detector_config())
    with pytest.raises(UsageError, match="channel_order='gray' must be 'bgr' or 'rgb'"):
        Detector(model, channel_order='gray')
    with pytest.raises(UsageError, match='score_thr=1.5 must be in 0 to 1'):
        Detector(model, score_thr=1.5)
    with pytest.raises(UsageError, match='Linear is no detector'):
        Detector(torch.nn.Linear(1, 1))
    model.predict = lambda *_: [DetDataSample(pred_panoptic_seg=PixelData())]
    detector = Detector(model)
    detector.decoder = None  # as of a detector with two stages
    with pytest.raises(UsageError, match='FCOS predicts no boxes, but pred_panoptic_seg'):
        detector(image((64, 64)))
    path = packed_file(classifier_config(), tmp_path / 'classifier.safetensors')
    with pytest.raises(UsageError, match="ImageClassifier of '.*classifier.safetensors' is no det"):
        Detector(path)


@pytest.mark.parametrize('name', ['5 $', '$x$', r'$\frac$', '50 %$x%$'])
def test_a_name_with_dollars_is_drawn_as_it_is(name, monkeypatch):
    cfg = Config.fromfile(CONFIGS / 'demo/ste_fcos-1bit_r18-light_10e_digits.py')
    cfg.model.test_cfg.score_thr = 0.0  # of an untrained head
    init_default_scope('mmdet')
    model = build_model(cfg).eval()
    model.cfg, model.dataset_meta = cfg, {'classes': (name,) * 10}
    predictor = Predictor(model, score_thr=0)
    image = np.zeros((64, 64, 3), np.uint8)
    sample = predictor.predict(image)
    drawn = []
    monkeypatch.setattr(
        Text, 'draw', lambda self, renderer: drawn.append(self._preprocess_math(self.get_text()))
    )
    predictor.draw(image, sample)
    labels = [text for text in drawn if text[0]]  # those of the axes are empty
    assert labels
    assert all(text.startswith(f'{name}: ') and not is_formula for text, is_formula in labels)
    assert predictor.describe(sample)[0]['class'] == name
