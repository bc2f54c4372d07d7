"""Comparison of C files with packed models: boxes are paired, and a flipped sign is found."""

import numpy as np
import pytest
import torch
from benchmark_cases.c_model import Probe
from compare_c import box_differences
from helpers.c_code import COMPILER
from torch import nn

from surge_mm import SurgeConv2d
from surge_mm.deploy import pack
from surge_mm.deploy.predict.detector import Detections


def detections(*rows):
    boxes, scores, labels = zip(*rows, strict=True) if rows else ((), (), ())
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.array(scores), np.array(labels)
    )


ONE, OTHER = ((0, 0, 10, 10), 0.5, 1), ((5, 0, 9, 30), 0.5, 0)
MOVED = ((0, 0, 10.005, 10), 0.5, 1)


def test_boxes_are_paired_in_any_order():
    boxes, scores, missing = box_differences(detections(ONE, OTHER), detections(OTHER, MOVED))
    assert (round(boxes, 4), scores, missing) == (0.005, 0, 0)
    assert box_differences(detections(), detections()) == (0, 0, 0)


@pytest.mark.parametrize(
    'found',
    [
        (ONE,),
        (ONE, ONE),
        (ONE, (*OTHER[:2], 2)),
        (ONE, ((5, 0, 9, 30.02), 0.5, 0)),
        (ONE, (OTHER[0], 0.5002, 0)),
        (),
    ],
)
def test_a_missing_moved_or_doubled_box_is_found(found):
    assert box_differences(detections(ONE, OTHER), detections(*found))[0] == np.inf


@pytest.mark.skipif(COMPILER is None, reason='no C compiler')
def test_the_first_layer_with_a_flipped_sign_is_named(tmp_path, monkeypatch):
    torch.manual_seed(0)
    layers = SurgeConv2d(3, 8, 3, padding=1), nn.Hardtanh(), SurgeConv2d(8, 4, 1), nn.PReLU()
    model = pack(nn.Sequential(*layers, SurgeConv2d(4, 4, 1)).eval())
    probe, image = Probe(model, tmp_path, (8, 8)), torch.randn(1, 3, 8, 8)
    assert probe.first_flip(image) is None
    first, second, third = probe.library.maps(image)
    place = second.abs().argmin()
    negated = second.flatten().clone()
    negated[place] *= -1
    monkeypatch.setattr(
        probe.library, 'maps', lambda _: [first, negated.reshape(second.shape), third]
    )
    flip = probe.first_flip(image)
    assert (flip.layer, flip.count) == ('2', 1)
    assert flip.distance == pytest.approx(float(second.abs().min() / second.abs().max()))
    assert flip.error == pytest.approx(2 * flip.distance)
