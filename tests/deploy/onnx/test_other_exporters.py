"""Exporters that a user calls on a whole model, without ``tools/export.py``."""

import io
from pathlib import Path

import onnxruntime
import pytest
import torch
from helpers.packed_files import classifier_config, detector_config, trained_model
from torch import nn

import surge_mm
from surge_mm.deploy.onnx.export import export_onnx

pytestmark = pytest.mark.filterwarnings('ignore')
ODD = [0.0, -0.0, float('nan'), float('inf'), -float('inf'), 1e-40, -1e-40, 3e38, -3e38]
SIGNS = [1, -1, 1, 1, -1, 1, -1, 1, -1]
"""Signs of the numbers in ODD: the sign bit decides."""


class Maps(nn.Module):
    """A model that returns its raw outputs as a tuple of tensors."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        out = self.model(images, mode='tensor')
        return tuple(m for maps in out for m in maps) if isinstance(out, tuple) else (out,)


@pytest.fixture(scope='module', params=['detector', 'classifier'])
def whole(request):
    """Return a model, an image and the outputs."""
    cfg, size = {
        'detector': (detector_config(), 64),
        'classifier': (classifier_config(), 32),
    }[request.param]
    model = Maps(trained_model(cfg)).eval()
    images = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return model, images, model(images)


def outputs_of(data, images):
    session = onnxruntime.InferenceSession(data, providers=['CPUExecutionProvider'])
    return session.run(None, {session.get_inputs()[0].name: images.numpy()})


def assert_same(outputs, expected):
    assert len(outputs) == len(expected)
    for one, other in zip(outputs, expected, strict=True):
        tolerance = 1e-4 * float(other.abs().max())
        torch.testing.assert_close(torch.as_tensor(one), other, rtol=0, atol=tolerance)


def test_the_exporter_by_tracing(whole):
    model, images, expected = whole
    file = io.BytesIO()
    torch.onnx.export(model, (images,), file, dynamo=False, opset_version=17)
    assert_same(outputs_of(file.getvalue(), images), expected)


@pytest.mark.parametrize('weight', ['ScaledSign', 'Real'])
def test_the_exporter_by_tracing_takes_a_linear_layer_of_tokens(weight):
    layer = surge_mm.SurgeLinear(8, 6, weight={'type': weight}).eval()
    tokens, file = torch.randn(2, 4, 8), io.BytesIO()
    torch.onnx.export(layer, (tokens,), file, dynamo=False, opset_version=17)
    with torch.no_grad():
        assert_same(outputs_of(file.getvalue(), tokens), [layer(tokens)])


def test_torch_export_has_operators_of_all_exporters(whole):
    """The new exporter of ONNX starts from this program, and lacks copysign, signbit and autograd functions."""
    model, images, expected = whole
    program = torch.export.export(model, (images,)).run_decompositions()
    names = {str(node.target) for node in program.graph.nodes if node.op == 'call_function'}
    assert not {name for name in names if 'sign' in name or 'autocast' in name}
    assert sum('round' in name for name in names)  # the exact sums of the form for inference
    assert_same(program.module()(images), expected)


def test_the_new_exporter_of_onnx(whole, tmp_path):
    pytest.importorskip('onnxscript')
    model, images, expected = whole
    path = str(tmp_path / 'a.onnx')
    torch.onnx.export(model, (images,), path, dynamo=True)
    assert_same(outputs_of(path, images), expected)


def test_openvino(whole):
    openvino = pytest.importorskip('openvino')
    model, images, expected = whole
    converted = openvino.convert_model(model, example_input=images)
    exact = {'INFERENCE_PRECISION_HINT': 'f32'}
    found = openvino.compile_model(converted, 'CPU', exact)(images.numpy())
    assert_same([torch.as_tensor(found[i]) for i in range(len(expected))], expected)


def layer_of_signs():
    """Return a layer whose output is the sign of its input."""
    layer = surge_mm.SurgeLinear(1, 1, bias=False, weight={'type': 'Sign'}, compensator=None)
    nn.init.ones_(layer.weight)
    return layer.eval()


def by_tracing(layer, x):
    return torch.jit.trace(layer, x)(x)


def by_torch_export(layer, x):
    return torch.export.export(layer, (x,)).module()(x)


def by_onnx(layer, x):
    file = io.BytesIO()
    torch.onnx.export(layer, (x,), file, dynamo=False, opset_version=17)
    return torch.as_tensor(outputs_of(file.getvalue(), x)[0])


def by_packing(layer, x):
    return surge_mm.deploy.pack(layer)(x)


@torch.no_grad()
@pytest.mark.parametrize(
    'exported', [by_tracing, by_torch_export, by_onnx, by_packing, lambda layer, x: layer(x)]
)
def test_signs_of_zero_and_of_odd_numbers_are_the_same_everywhere(exported):
    x = torch.tensor(ODD)[:, None]
    assert exported(layer_of_signs(), x).flatten().tolist() == SIGNS


class Zeros(nn.Module):
    """A backbone whose binary layer gets zeros of both signs."""

    def __init__(self):
        super().__init__()
        self.conv = surge_mm.SurgeConv2d(3, 4, 3, compensator=None)

    def forward(self, x):
        return self.conv(x * 0.0)


@torch.no_grad()
def test_our_export_takes_the_signs_of_zeros_as_the_layer_does(tmp_path):
    model = Zeros().eval()
    x = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(0)) - 0.5
    assert not (x * 0.0).any()
    export_onnx(model, tmp_path / 'a.onnx', (9, 9))
    data = Path(tmp_path / 'a.onnx').read_bytes()
    assert_same(outputs_of(data, x), [model(x)])
    assert not torch.allclose(model(x), model(x.abs()))  # the signs of zeros count
