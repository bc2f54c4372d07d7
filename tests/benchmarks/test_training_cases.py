"""All variants of the training benchmark are one structure."""

import pytest
import torch
from benchmark_cases.training import (
    CONVOLUTIONS,
    FULL,
    LITE,
    PLAIN,
    SURGE,
    USUAL,
    BenchmarkCase,
    Workload,
)
from benchmark_cases.training_cost import saved_bytes


def test_a_detector_trains_and_its_backbone_keeps_signs_in_the_usual_form_alone():
    workload = Workload('detector', batch=1, pixels=64, channels_last=True)
    saved = {}
    for name in (USUAL, LITE):
        case = BenchmarkCase(name, workload)
        case.step()
        assert len(case.names) == 16
        saved[name] = saved_bytes(case.model, case.loss, case.names)
    assert saved[LITE].layers < saved[USUAL].layers / 2
    assert saved[LITE].model < saved[USUAL].model


def test_binary_variants_have_one_loss_and_the_real_one_another():
    workload = Workload('layer', batch=2, pixels=32, channels=8)
    loss = {name: BenchmarkCase(name, workload).loss().item() for name in CONVOLUTIONS}
    for name in CONVOLUTIONS.keys() - {FULL, USUAL}:
        assert loss[name] == pytest.approx(loss[USUAL], rel=1e-4)
    assert loss[FULL] != pytest.approx(loss[USUAL], rel=1e-2)


def test_the_usual_form_has_the_gradients_of_ours_without_a_branch():
    workload = Workload('layer', batch=2, pixels=8, channels=4)
    gradients = []
    for name in (USUAL, PLAIN):
        case = BenchmarkCase(name, workload)
        case.loss().backward()
        gradients.append((case.model.weight.grad, case.inputs.grad))
    for usual, ours in zip(*gradients, strict=True):
        torch.testing.assert_close(usual, ours)


def test_blocks_that_are_computed_again_keep_nothing_in_their_layers():
    workload = Workload('backbone', batch=2, pixels=32, channels=8, with_cp=True)
    case = BenchmarkCase(SURGE, workload)
    saved = saved_bytes(case.model, case.loss, case.names)
    assert saved.layers == 0
    assert 0 < saved.model < 4e6
