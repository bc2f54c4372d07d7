"""All variants of the inference benchmark are one structure; no time is judged."""

import pytest
import torch
from benchmark_cases.inference import (
    FLOAT,
    FROM_SIGNS,
    INT8,
    PACKED,
    RUNS_BEFORE,
    VARIANTS,
    BenchmarkCase,
    Workload,
    build,
)
from benchmark_cases.inference_cost import Row, plot_rows
from PIL import Image
from torch import nn

from surge_mm.analysis.forward import network_forward
from surge_mm.layers import BinaryLayer

WORKLOADS = [
    Workload('layer', 12, 10, channels=32),
    Workload('chain', 12, 10, channels=32),
    Workload('backbone', 64, 64),
    Workload('detector', 64, 64),
]


def tensors(outputs):
    if torch.is_tensor(outputs):
        return [outputs]
    if not isinstance(outputs, list | tuple):
        return []
    return [tensor for output in outputs for tensor in tensors(output)]


def shapes_of_convolutions(model):
    return {
        name: (tuple(layer.weight.shape), layer.stride, layer.padding)
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d)
    }


@pytest.mark.parametrize('workload', WORKLOADS, ids=lambda workload: workload.what)
def test_all_variants_give_outputs_of_one_shape(workload):
    given = {
        variant: [
            tensor.shape
            for tensor in tensors(BenchmarkCase(variant, workload).run())
            if tensor.numel()
        ]
        for variant in VARIANTS[workload.what]
    }
    if FROM_SIGNS in given:
        assert given.pop(FROM_SIGNS)[0] == given[FLOAT][0]
    assert all(shapes == given[FLOAT] for shapes in given.values())


@pytest.mark.parametrize('workload', WORKLOADS[1:], ids=lambda workload: workload.what)
def test_packed_networks_run_without_their_modules(workload):
    case = BenchmarkCase(PACKED, workload)
    for _ in range(RUNS_BEFORE):
        case.run()
    (capture,) = case._forward.func._kept.values()
    assert capture.program is not None


@pytest.mark.parametrize('workload', WORKLOADS, ids=lambda workload: workload.what)
@torch.no_grad()
def test_packed_computes_what_the_binary_model_does(workload):
    torch.manual_seed(0)
    binary = build(workload).to(memory_format=torch.channels_last)
    case = BenchmarkCase(PACKED, workload)
    expected, given = tensors(network_forward(binary, case.x)()), tensors(case.run())
    assert any(tensor.abs().sum() > 0 for tensor in expected)
    for binary_output, packed_output in zip(expected, given, strict=True):
        assert torch.equal(binary_output, packed_output)


@pytest.mark.parametrize('workload', WORKLOADS, ids=lambda workload: workload.what)
def test_float_is_the_same_structure_with_real_convolutions(workload):
    binary, model = build(workload), BenchmarkCase(FLOAT, workload).model
    assert not any(isinstance(module, BinaryLayer) for module in model.modules())
    assert shapes_of_convolutions(model) == shapes_of_convolutions(binary)
    assert (
        len(shapes_of_convolutions(model))
        >= {'layer': 1, 'chain': 8, 'backbone': 16, 'detector': 32}[workload.what]
    )


def test_files_shrink_from_float_to_int8_to_packed():
    sizes = [BenchmarkCase(variant, WORKLOADS[0]).bytes for variant in (FLOAT, INT8, PACKED)]
    assert sizes == [4 * 32 * 32 * 9, 32 * 32 * 9, 32 * 32 * 9 // 8 + 4 * 32]


@torch.no_grad()
def test_the_quantized_backbone_computes_nearly_what_float_does():
    torch.manual_seed(0)
    real, quantized = (BenchmarkCase(variant, WORKLOADS[2]).run()[0] for variant in (FLOAT, INT8))
    assert (real - quantized).norm() < 0.2 * real.norm()


def test_figures_are_drawn(tmp_path):
    rows = [
        Row(name, variant, {1: time, 2: time / 2}, {1: 3 / time, 2: 3 / time}, 1.0, 100.0, {})
        for name in ('a', 'b')
        for variant, time in ((FLOAT, 3.0), (PACKED, 0.5))
    ]
    assert rows[0].gain() == 2
    width, height = Image.open(plot_rows(rows, tmp_path / 'figures.png')).size
    assert width > 700 and height > 800
