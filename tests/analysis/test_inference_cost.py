"""What is compared is of one structure; no time is judged."""

import pytest
import torch
from PIL import Image
from torch import nn

from surge_mm.analysis.inference_cost import Row, plot_rows
from surge_mm.analysis.inference_subjects import (
    FLOAT,
    FROM_SIGNS,
    INT8,
    PACKED,
    VARIANTS,
    Setting,
    Subject,
    _build,
)
from surge_mm.layers import BinaryLayer

SETTINGS = [
    Setting('layer', 12, 10, channels=32),
    Setting('backbone', 64, 64),
    Setting('detector', 64, 64),
]


def shapes(outputs):
    if torch.is_tensor(outputs):
        return [tuple(outputs.shape)]
    return [shape for one in outputs for shape in shapes(one)] if outputs is not None else []


@pytest.mark.parametrize('setting', SETTINGS, ids=lambda setting: setting.what)
def test_all_variants_give_outputs_of_one_shape(setting):
    given = {variant: shapes(Subject(variant, setting).run()) for variant in VARIANTS[setting.what]}
    if FROM_SIGNS in given:
        assert given.pop(FROM_SIGNS)[0] == given[FLOAT][0]
    assert all(one == given[FLOAT] for one in given.values())


@torch.no_grad()
def test_the_packed_backbone_computes_what_the_binary_one_does():
    setting = SETTINGS[1]
    torch.manual_seed(0)
    binary = _build(setting).to(memory_format=torch.channels_last)
    subject = Subject(PACKED, setting)
    for one, other in zip(binary(subject._x), subject.run(), strict=True):
        assert torch.equal(one, other)


def test_float_is_the_same_structure_with_real_convolutions():
    subject = Subject(FLOAT, SETTINGS[1])
    assert not any(isinstance(m, BinaryLayer) for m in subject.model.modules())
    assert (
        sum(isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3) for m in subject.model.modules())
        == 16
    )


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
