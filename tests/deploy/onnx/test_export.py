"""ONNX files, run by ONNX Runtime."""

import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from helpers.narrow import config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

import surge_mm
from surge_mm.deploy import pack
from surge_mm.deploy.onnx.export import export_onnx
from surge_mm.utils.errors import UsageError

pytestmark = pytest.mark.filterwarnings('ignore::DeprecationWarning')


def run(path, x):
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    return session.run(None, {'images': x.numpy()})


def detector(tmp_path, family='fcos-1bit_r18_fpn'):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(config(family, tmp_path, tmp_path).model).eval()
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
    assert props['pad_size_divisor'] == '32'
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


def test_outputs_have_names_and_the_sizes_that_come_out(tmp_path):
    export_onnx(detector(tmp_path), tmp_path / 'fcos.onnx', (64, 96))
    outputs = onnx.load(tmp_path / 'fcos.onnx').graph.output
    shapes = {
        o.name: [d.dim_param or d.dim_value for d in o.type.tensor_type.shape.dim] for o in outputs
    }
    channels = {'cls_scores': 10, 'bbox_preds': 4, 'centernesses': 1}
    sizes = [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]
    assert shapes == {
        f'{name}_{level}': ['N', count, *size]
        for name, count in channels.items()
        for level, size in enumerate(sizes)
    }


def test_layers_that_levels_share_are_stored_once_and_give_their_maps(tmp_path):
    model = detector(tmp_path, 'rtmdet-1bit_r18')
    export_onnx(model, tmp_path / 'rtmdet.onnx', (64, 96))
    binary = {m for m in model.modules() if isinstance(m, surge_mm.layers.BinaryLayer)}
    heads = [m for m in model.bbox_head.modules() if isinstance(m, surge_mm.layers.BinaryLayer)]
    places = [n for n, m in model.named_modules(remove_duplicate=False) if m in set(heads)]
    assert len(places) > len(heads)
    file = onnx.load(tmp_path / 'rtmdet.onnx')
    int8 = [t for t in file.graph.initializer if t.data_type == onnx.TensorProto.INT8]
    assert sum(np.prod(t.dims) for t in int8) == sum(m.weight.numel() for m in binary)
    x = torch.randn(3, 3, 64, 96)
    with torch.no_grad():
        expected = [one for maps in model(x, mode='tensor') for one in maps]
    for one, other in zip(expected, run(tmp_path / 'rtmdet.onnx', x), strict=True):
        np.testing.assert_allclose(other, one.numpy(), rtol=1e-3, atol=1e-3)


def test_a_backbone_gives_its_features_for_any_number_of_images(tmp_path):
    torch.manual_seed(0)
    model = surge_mm.SurgeResNet(18, base_channels=16).eval()
    export_onnx(model, tmp_path / 'resnet.onnx', (64, 96))
    names = [o.name for o in onnx.load(tmp_path / 'resnet.onnx').graph.output]
    assert names == [f'features_{i}' for i in range(4)]
    for n in (1, 2, 5):
        x = torch.randn(n, 3, 64, 96)
        with torch.no_grad():
            expected = model(x)
        for one, other in zip(expected, run(tmp_path / 'resnet.onnx', x), strict=True):
            np.testing.assert_allclose(other, one.numpy(), rtol=1e-4, atol=1e-4)


def classifier(**settings):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(
            {
                'type': 'ImageClassifier',
                'backbone': {
                    'type': 'surge_mm.SurgeResNet', 'depth': 18, 'base_channels': 16, 'out_indices': (3,)
                },
                'neck': {'type': 'GlobalAveragePooling'},
                'head': {'type': 'LinearClsHead', 'num_classes': 7, 'in_channels': 128},
                **settings,
            }
        ).eval()  # fmt: skip


def test_a_classifier_gives_its_scores_and_stays_as_it_is(tmp_path):
    model = classifier()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    export_onnx(model, tmp_path / 'classifier.onnx', (64, 64))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    (output,) = onnx.load(tmp_path / 'classifier.onnx').graph.output
    assert output.name == 'scores'
    x = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        expected = model(x, mode='tensor').numpy()
    np.testing.assert_allclose(
        run(tmp_path / 'classifier.onnx', x)[0], expected, rtol=1e-3, atol=1e-3
    )


def test_the_metadata_have_the_normalization_on_the_device(tmp_path):
    mean, std = [125.0, 123.0, 114.0], [63.0, 62.0, 67.0]
    preprocessor = {'type': 'surge_mm.BatchAugmentPreprocessor', 'mean': mean, 'std': std}
    export_onnx(classifier(data_preprocessor=preprocessor), tmp_path / 'a.onnx', (32, 32))
    props = {prop.key: prop.value for prop in onnx.load(tmp_path / 'a.onnx').metadata_props}
    assert (json.loads(props['mean']), json.loads(props['std'])) == (mean, std)


class Returns(nn.Module):
    """A layer, and what ``then`` makes of its output and of the images."""

    def __init__(self, then):
        super().__init__()
        self.layer, self.then = surge_mm.SurgeConv2d(3, 3, 3, padding=1), then

    def forward(self, x):
        return self.then(self.layer(x), x)


def test_an_output_may_be_the_input_of_a_layer_or_another_output(tmp_path):
    model = Returns(lambda y, x: (x, y, y)).eval()
    export_onnx(model, tmp_path / 'a.onnx', (9, 8))
    x = torch.randn(2, 3, 9, 8)
    with torch.no_grad():
        expected = model(x)
    for one, other in zip(expected, run(tmp_path / 'a.onnx', x), strict=True):
        np.testing.assert_array_equal(one.numpy(), other)


@pytest.mark.parametrize(
    ('make', 'said'),
    [
        (lambda folder: pack(surge_mm.SurgeResNet(18, base_channels=16)), 'is packed'),
        (lambda folder: nn.Conv2d(3, 3, 3), 'has no binary layer'),
        (lambda folder: Returns(lambda y, x: {'a': y}), 'features is a dict'),
        (lambda folder: Returns(lambda y, x: torch.linalg.svd(y)[1]), 'linalg_svd'),
        (lambda folder: Returns(lambda y, x: y / 0), 'not finite'),
        (
            lambda folder: surge_mm.SurgeConv2d(3, 3, 65),
            r'images of size=\(64, 64\) .* kernel size',
        ),
    ],
)
def test_a_model_that_cannot_be_exported_is_refused_without_other_output(
    make, said, tmp_path, capfd
):
    with pytest.raises(UsageError, match=f'(?i){said}'):
        export_onnx(make(tmp_path), tmp_path / 'a.onnx', (64, 64))
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr().out == ''


@pytest.mark.parametrize('size', [(0, 64), (64.0, 64), (64,), 64])
def test_an_invalid_image_size_is_refused(size, tmp_path):
    with pytest.raises(UsageError, match='cannot be an ONNX file'):
        export_onnx(surge_mm.SurgeConv2d(3, 6, 3), tmp_path / 'a.onnx', size)


def test_a_detector_of_two_stages_is_refused(tmp_path):
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(config('faster-rcnn-1bit_r18_fpn', tmp_path, tmp_path).model)
    with pytest.raises(UsageError, match='FasterRCNN has several stages'):
        export_onnx(model, tmp_path / 'a.onnx', (64, 64))


def test_a_transformer_that_needs_data_samples_is_refused_by_the_line_that_needs_them(tmp_path):
    attention = {'embed_dims': 16, 'num_heads': 2}
    layer = {'self_attn_cfg': attention, 'ffn_cfg': {'embed_dims': 16, 'feedforward_channels': 16}}
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(
            {
                'type': 'DETR',
                'num_queries': 2,
                'backbone': {
                    'type': 'surge_mm.SurgeResNet', 'depth': 18, 'base_channels': 8, 'out_indices': (3,)
                },
                'neck': {
                    'type': 'ChannelMapper', 'in_channels': [64], 'kernel_size': 1, 'out_channels': 16,
                    'num_outs': 1,
                },
                'encoder': {'num_layers': 1, 'layer_cfg': layer},
                'decoder': {'num_layers': 1, 'layer_cfg': {**layer, 'cross_attn_cfg': attention}},
                'positional_encoding': {'num_feats': 8},
                'bbox_head': {'type': 'DETRHead', 'num_classes': 3, 'embed_dims': 16},
            }
        ).eval()  # fmt: skip
    said = r'AssertionError: assert batch_data_samples is not None \(detr.py:84\). Export .* model.backbone'
    with pytest.raises(UsageError, match=said):
        export_onnx(model, tmp_path / 'a.onnx', (64, 64))


def test_missing_packages_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(
        UsageError, match=r'onnxruntime must be installed: pip install "surge_mm\[onnx\]"'
    ):
        export_onnx(surge_mm.SurgeConv2d(3, 6, 3), tmp_path / 'a.onnx', (9, 8))
