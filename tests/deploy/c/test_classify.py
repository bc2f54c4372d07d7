"""Input of a classifier in C against the pipeline of MMPretrain, by OpenCV and by Pillow."""

import numpy as np
import pytest
import torch
from helpers.c_code import COMPILER
from helpers.c_pictures import InC, picture
from helpers.narrow import CONFIGS
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope

from surge_mm.deploy.c.classify import classifier_steps
from surge_mm.launch.runner import build_model
from surge_mm.utils.errors import UsageError

pytestmark = pytest.mark.skipif(COMPILER is None, reason='no C compiler')

SIZES = [
    *((w, h) for w in (1, 31, 48, 97) for h in (1, 23, 64, 131)),
    *((128, 96), (333, 250), (640, 41), (55, 300)),
]
CROP = {'type': 'CenterCrop', 'crop_size': (40, 33)}
EDGE = {'type': 'ResizeEdge', 'scale': 48}
PIPELINES = {
    'short': [EDGE, CROP],
    'short by Pillow': [{**EDGE, 'backend': 'pillow'}, CROP],
    'short, even, by Pillow': [{**EDGE, 'backend': 'pillow', 'scale': 50}, CROP],
    'long': [{**EDGE, 'edge': 'long'}],
    'width by Pillow': [{**EDGE, 'edge': 'width', 'backend': 'pillow'}, CROP],
    'height': [{**EDGE, 'edge': 'height'}, CROP],
    'exact by Pillow': [{'type': 'Resize', 'scale': (64, 37), 'backend': 'pillow'}],
    'keep_ratio': [{'type': 'Resize', 'scale': (64, 48), 'keep_ratio': True}],
    'crop': [CROP],
}
BAD = {
    'interpolation': ([{**EDGE, 'interpolation': 'bicubic'}], "interpolation='bicubic'"),
    'padding': ([{**CROP, 'auto_pad': True}], 'CenterCrop'),
    'order': ([CROP, EDGE], 'ResizeEdge'),
    'unknown': ([{'type': 'RandomFlip', 'prob': 0.0}], 'RandomFlip'),
    'too large': ([EDGE, {**CROP, 'crop_size': 65}], 'smaller than .*, 65x65'),
}


def classifier(steps):
    """Return a classifier with these steps in its test pipeline."""
    cfg = Config.fromfile(CONFIGS / 'resnet/ste_resnet18_200e_in1k.py')
    cfg.model.backbone.base_channels = 4
    cfg.model.head.update(in_channels=32, num_classes=2, topk=(1,))
    cfg.test_dataloader.dataset.pipeline = [
        {'type': 'LoadImageFromFile'},
        *steps,
        {'type': 'PackInputs'},
    ]
    init_default_scope(cfg.default_scope)
    model = build_model(cfg)
    model.cfg = cfg
    return model


@pytest.mark.parametrize('name', PIPELINES)
def test_input_equals_that_of_the_pipeline_to_the_bit(name, tmp_path):
    model = classifier(PIPELINES[name])
    pipeline = Compose([*PIPELINES[name], {'type': 'PackInputs'}])
    in_c = InC(tmp_path, classifier_steps(model, (64, 64)))
    compared = 0
    for seed, size in enumerate(SIZES):
        pixels = picture(size, seed)
        try:
            inputs = pipeline({'img': pixels, 'img_path': None})['inputs']
        except Exception:  # a side of 0 pixels
            assert in_c(pixels) is None
            continue
        tensor = model.data_preprocessor({'inputs': inputs[None]})['inputs']
        if max(tensor.shape[2:]) > 64:
            assert in_c(pixels) is None
            continue
        found, _ = in_c(pixels)
        assert torch.equal(torch.from_numpy(found.copy()).permute(2, 0, 1), tensor[0]), size
        compared += 1
    assert compared >= 10
    assert in_c(np.zeros((1, 70000, 3), np.uint8)) is None


@pytest.mark.parametrize('name', BAD)
def test_a_step_without_a_form_in_c_is_named(name):
    steps, named = BAD[name]
    with pytest.raises(UsageError, match=named):
        classifier_steps(classifier(steps), (64, 64))
