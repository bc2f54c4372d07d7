"""What the training benchmark measures is one structure in all its variants."""

import pytest
import torch

from surge_mm.analysis.training_cost import saved_bytes
from surge_mm.analysis.training_subjects import (
    CONVOLUTIONS,
    FULL,
    LITE,
    NAIVE,
    PLAIN,
    SURGE,
    USUAL,
    Setting,
    Subject,
)


def test_a_detector_trains_and_its_backbone_keeps_signs_in_the_usual_form_alone():
    setting = Setting('detector', batch=1, pixels=64, channels_last=True)
    saved = {}
    for name in (USUAL, LITE):
        subject = Subject(name, setting)
        subject.step()
        assert len(subject.names) == 16
        saved[name] = saved_bytes(subject.model, subject.loss, subject.names)
    assert saved[LITE].binary < saved[USUAL].binary / 2
    assert saved[LITE].whole < saved[USUAL].whole


def test_binary_variants_have_one_loss_and_the_real_one_another():
    setting = Setting('layer', batch=2, pixels=32, channels=8)
    loss = {name: Subject(name, setting).loss().item() for name in CONVOLUTIONS}
    for name in (PLAIN, NAIVE, SURGE, LITE):
        assert loss[name] == pytest.approx(loss[USUAL], rel=1e-4)
    assert loss[FULL] != pytest.approx(loss[USUAL], rel=1e-2)


def test_the_usual_form_has_the_gradients_of_ours_without_a_branch():
    setting = Setting('layer', batch=2, pixels=8, channels=4)
    gradients = []
    for name in (USUAL, PLAIN):
        subject = Subject(name, setting)
        subject.loss().backward()
        gradients.append((subject.model.weight.grad, subject._inputs.grad))
    for usual, ours in zip(*gradients, strict=True):
        torch.testing.assert_close(usual, ours)


def test_blocks_that_are_computed_again_keep_nothing_in_their_layers():
    setting = Setting('backbone', batch=2, pixels=32, channels=8, with_cp=True)
    subject = Subject(SURGE, setting)
    saved = saved_bytes(subject.model, subject.loss, subject.names)
    assert saved.binary == 0
    assert 0 < saved.whole < 4e6
