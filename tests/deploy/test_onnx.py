"""ONNX files, run by ONNX Runtime."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from narrow import config
from torch import nn

import surge_mm
from surge_mm.deploy import onnx as deploy_onnx
from surge_mm.deploy import pack
from surge_mm.deploy.onnx import export_onnx
from surge_mm.errors import UsageError

pytestmark = pytest.mark.filterwarnings('ignore::DeprecationWarning')


def run(path, x):
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    return session.run(None, {'images': x.numpy()})


LAYERS = {
    'zeros around': {'padding': 1},
    'ones around': {'padding': 1, 'pad_value': 1},
    'minus ones around, stride': {'padding': (2, 1), 'pad_value': -1, 'stride': 2},
    'reflected': {'padding': 1, 'padding_mode': 'reflect'},
    'same': {'padding': 'same', 'dilation': (1, 2)},
    'groups': {'groups': 3, 'weight': {'type': 'AdaBin'}, 'padding': 1},
    'learned shift': {'activation': {'type': 'RSign'}},
    'learned gain': {'weight': {'type': 'ReCU'}, 'bias': False},
    'powers of two': {'weight': {'type': 'Libra'}},
    'two values': {'weight': {'type': 'AdaBin'}},
    'not binary yet': {'weight': {'type': 'Real'}},
}


@pytest.mark.parametrize('name', LAYERS)
def test_a_layer_gives_its_outputs(name, tmp_path):
    layer = surge_mm.SurgeConv2d(3, 6, 3, **LAYERS[name]).eval()
    with torch.no_grad():
        if layer.activation_shift is not None:
            layer.activation_shift.normal_()
        export_onnx(layer, tmp_path / 'layer.onnx', (9, 8))
        x = torch.randn(4, 3, 9, 8)
        expected = layer(x).numpy()
    np.testing.assert_allclose(run(tmp_path / 'layer.onnx', x)[0], expected, rtol=1e-5, atol=1e-5)


def test_a_linear_layer_gives_its_outputs(tmp_path):
    model = nn.Sequential(nn.Flatten(), surge_mm.SurgeLinear(3 * 9 * 8, 5)).eval()
    export_onnx(model, tmp_path / 'linear.onnx', (9, 8))
    x = torch.randn(4, 3, 9, 8)
    with torch.no_grad():
        expected = model(x).numpy()
    np.testing.assert_allclose(run(tmp_path / 'linear.onnx', x)[0], expected, rtol=1e-5, atol=1e-5)


def detector(tmp_path):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(config('fcos-1bit_r18_fpn', tmp_path, tmp_path).model).eval()
    model.dataset_meta = {'classes': ('a', 'b')}
    return model


def test_a_detector_is_of_standard_operators_and_int8_signs(tmp_path):
    model = detector(tmp_path)
    export_onnx(model, tmp_path / 'fcos.onnx', (64, 96))
    file = onnx.load(tmp_path / 'fcos.onnx')
    assert {node.domain for node in file.graph.node} == {''}
    binary = [m for m in model.modules() if isinstance(m, surge_mm.layers.BinaryLayer)]
    int8 = [t for t in file.graph.initializer if t.data_type == onnx.TensorProto.INT8]
    constants = [
        a.t for n in file.graph.node for a in n.attribute if a.t.data_type == onnx.TensorProto.INT8
    ]
    assert len(int8) + len(constants) == len(binary)
    whole = sum(4 * p.numel() for n, p in model.named_parameters() if 'aux_weight' not in n)
    assert (tmp_path / 'fcos.onnx').stat().st_size < 0.45 * whole
    props = {prop.key: prop.value for prop in file.metadata_props}
    assert json.loads(props['classes']) == ['a', 'b']
    assert json.loads(props['mean']) == pytest.approx([123.675, 116.28, 103.53])
    assert json.loads(props['bgr_to_rgb']) is True
    assert props['surge_mm_version'] == surge_mm.__version__


def test_a_detector_gives_the_maps_of_its_head(tmp_path):
    model = detector(tmp_path)
    export_onnx(model, tmp_path / 'fcos.onnx', (64, 96))
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = [one for maps in model(x, mode='tensor') for one in maps]
    outputs = run(tmp_path / 'fcos.onnx', x)
    assert len(outputs) == len(expected)
    near = [
        np.linalg.norm(one.numpy() - other) < 1e-3 * np.linalg.norm(one.numpy())
        for one, other in zip(expected, outputs, strict=True)
    ]
    assert (
        len(near) == 15 and sum(near) >= 12
    )  # in an untrained head, some numbers are 0 but for rounding


def test_a_classifier_gives_its_scores(tmp_path):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(
            {
                'type': 'ImageClassifier',
                'backbone': {
                    'type': 'surge_mm.SurgeResNet', 'depth': 18, 'base_channels': 16, 'out_indices': (3,)
                },
                'neck': {'type': 'GlobalAveragePooling'},
                'head': {'type': 'LinearClsHead', 'num_classes': 7, 'in_channels': 128},
            }
        ).eval()  # fmt: skip
    before = {key: value.clone() for key, value in model.state_dict().items()}
    export_onnx(model, tmp_path / 'classifier.onnx', (64, 64))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    x = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        expected = model(x, mode='tensor').numpy()
    np.testing.assert_allclose(
        run(tmp_path / 'classifier.onnx', x)[0], expected, rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize(
    ('make', 'said'),
    [
        (lambda folder: pack(surge_mm.SurgeResNet(18, base_channels=16)), 'is packed'),
        (lambda folder: nn.Conv2d(3, 3, 3), 'has no binary layer'),
    ],
)
def test_what_cannot_be_exported_is_refused(make, said, tmp_path):
    with pytest.raises(UsageError, match=said):
        export_onnx(make(tmp_path), tmp_path / 'a.onnx', (64, 64))
    assert not list(tmp_path.iterdir())


def test_a_detector_of_two_stages_is_refused(tmp_path):
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(config('faster-rcnn-1bit_r18_fpn', tmp_path, tmp_path).model)
    with pytest.raises(UsageError, match='FasterRCNN is of several stages'):
        export_onnx(model, tmp_path / 'a.onnx', (64, 64))


def test_a_file_that_computes_something_else_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(deploy_onnx.ExportLayer, 'forward', lambda self, x: -self._convolution(x))
    with pytest.raises(UsageError, match='computes is 2 of its size away'):
        export_onnx(surge_mm.SurgeConv2d(3, 6, 3), tmp_path / 'a.onnx', (9, 8))
    assert not list(tmp_path.iterdir())


def test_missing_packages_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'onnxruntime', None)
    with pytest.raises(
        UsageError, match=r'onnxruntime must be installed: pip install "surge_mm\[onnx\]"'
    ):
        export_onnx(surge_mm.SurgeConv2d(3, 6, 3), tmp_path / 'a.onnx', (9, 8))
