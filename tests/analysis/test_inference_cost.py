"""What is compared is of one structure; no time is judged."""

import pytest
import torch
from mmengine.hub import get_config
from PIL import Image
from torch import nn

from surge_mm.analysis.forward import forward_of
from surge_mm.analysis.inference_cost import Row, plot_rows
from surge_mm.analysis.inference_subjects import (
    FLOAT,
    FROM_SIGNS,
    INT8,
    PACKED,
    VARIANTS,
    Setting,
    Subject,
    build,
)
from surge_mm.layers import BinaryLayer

SETTINGS = [
    Setting('layer', 12, 10, channels=32),
    Setting('backbone', 64, 64),
    Setting('detector', 64, 64),
]


def tensors(outputs):
    if torch.is_tensor(outputs):
        return [outputs]
    if not isinstance(outputs, list | tuple):
        return []
    return [tensor for one in outputs for tensor in tensors(one)]


def shapes_of_convolutions(model):
    return {
        name: (tuple(layer.weight.shape), layer.stride, layer.padding)
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d)
    }


@pytest.mark.parametrize('setting', SETTINGS, ids=lambda setting: setting.what)
def test_all_variants_give_outputs_of_one_shape(setting):
    given = {
        variant: [one.shape for one in tensors(Subject(variant, setting).run()) if one.numel()]
        for variant in VARIANTS[setting.what]
    }
    if FROM_SIGNS in given:
        assert given.pop(FROM_SIGNS)[0] == given[FLOAT][0]
    assert all(one == given[FLOAT] for one in given.values())


@pytest.mark.parametrize('setting', SETTINGS, ids=lambda setting: setting.what)
@torch.no_grad()
def test_packed_computes_what_the_binary_model_does(setting):
    torch.manual_seed(0)
    binary = build(setting).to(memory_format=torch.channels_last)
    subject = Subject(PACKED, setting)
    expected, given = tensors(forward_of(binary, subject.x)()), tensors(subject.run())
    assert any(one.abs().sum() > 0 for one in expected)
    for one, other in zip(expected, given, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize('setting', SETTINGS, ids=lambda setting: setting.what)
def test_float_is_the_same_structure_with_real_convolutions(setting):
    binary, model = build(setting), Subject(FLOAT, setting).model
    assert not any(isinstance(module, BinaryLayer) for module in model.modules())
    assert shapes_of_convolutions(model) == shapes_of_convolutions(binary)
    assert (
        len(shapes_of_convolutions(model))
        >= {'layer': 1, 'backbone': 16, 'detector': 32}[setting.what]
    )


def test_a_two_stage_detector_runs_from_its_config():
    cfg = get_config('surge_mm::voc/faster-rcnn-1bit_r18_fpn_12e_voc0712_ste.py')
    setting = Setting('detector', 64, 64, model=cfg.model)
    for variant in VARIANTS['detector']:
        assert tensors(Subject(variant, setting).run())


def test_files_shrink_from_float_to_int8_to_packed():
    sizes = [Subject(variant, SETTINGS[0]).bytes for variant in (FLOAT, INT8, PACKED)]
    assert sizes == [4 * 32 * 32 * 9, 32 * 32 * 9, 32 * 32 * 9 // 8 + 4 * 32]


@torch.no_grad()
def test_the_quantized_backbone_computes_nearly_what_float_does():
    torch.manual_seed(0)
    one, other = (Subject(variant, SETTINGS[1]).run()[0] for variant in (FLOAT, INT8))
    assert (one - other).norm() < 0.2 * one.norm()


def test_figures_are_drawn(tmp_path):
    rows = [
        Row(name, variant, {1: time, 2: time / 2}, {1: 3 / time, 2: 3 / time}, 1.0, 100.0, {})
        for name in ('a', 'b')
        for variant, time in ((FLOAT, 3.0), (PACKED, 0.5))
    ]
    assert rows[0].gain() == 2
    width, height = Image.open(plot_rows(rows, tmp_path / 'figures.png')).size
    assert width > 700 and height > 800
