"""Packed models whose real-valued convolutions are in int8 or bfloat16, and their files."""

import copy

import numpy as np
import pytest
import torch
from helpers.packed_files import changed, detector_config, setting, trained_model
from helpers.trained import channels_last, trained
from mmdet.apis import inference_detector
from torch import nn

import surge_mm
from surge_mm.deploy import Detector, PackedConv2d, load_packed, pack, save_packed
from surge_mm.deploy.onnx.export import export_onnx
from surge_mm.deploy.packed_file import format as packed_format
from surge_mm.deploy.packed_file.format import read_packed
from surge_mm.deploy.packed_file.size_report import sizes_of
from surge_mm.deploy.real_layers.bfloat16_conv import BFloat16Conv2d
from surge_mm.deploy.real_layers.int8_conv import Int8Conv2d
from surge_mm.utils.errors import CheckpointError, UsageError

KINDS = {'bfloat16': BFloat16Conv2d, 'int8': Int8Conv2d}
REAL_OF_FCOS = {'backbone.conv1.0', 'neck.lateral_convs.2.conv', 'bbox_head.conv_cls'}


class OwnConv(nn.Conv2d):
    def forward(self, x):
        return super().forward(x) + 1


def network():
    """Return a model whose second convolution is binary, with layers that stay in float32."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.PReLU(16),
        surge_mm.SurgeConv2d(16, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.Conv2d(16, 16, 1),
        OwnConv(16, 8, 1),
        nn.ConvTranspose2d(8, 8, 2),
        nn.utils.spectral_norm(nn.Conv2d(8, 8, 1)),
        nn.Conv2d(8, 8, 3, groups=8),
    )
    return trained(model)


def images(count=4, size=10):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(1, 3, size, size, generator=generator) for _ in range(count)]


def calibration(real):
    return images() if real == 'int8' else None


@pytest.fixture(scope='module')
def detector():
    """Return the config of a detector, and the model packed with each dtype."""
    cfg = detector_config(**{'model.test_cfg.score_thr': 0.0})
    model = trained_model(cfg)
    packed = {
        real: pack(copy.deepcopy(model), real, images(2, 64) if real == 'int8' else None)
        for real in ('float32', *KINDS)
    }
    return cfg, packed


@torch.no_grad()
def test_in_float32_nothing_changes():
    model, (x, *_) = network(), images()
    packed = pack(copy.deepcopy(model), 'float32')
    assert torch.equal(packed(x), channels_last(model)(x))
    assert packed.packing.real == packed.packing.kept_float == {}


@torch.no_grad()
@pytest.mark.parametrize('real', KINDS)
def test_convolutions_are_replaced_and_other_real_layers_listed(real):
    model = network()
    packed = pack(copy.deepcopy(model), real, calibration(real))
    assert [type(packed[i]) for i in (0, 5)] == [KINDS[real]] * 2
    assert isinstance(packed[3], PackedConv2d)
    followers = [type(packed[i]) for i in (1, 2)]
    assert followers == ([nn.Identity] * 2 if real == 'int8' else [nn.BatchNorm2d, nn.PReLU])
    assert packed.packing.real == {'0': real, '5': real}
    reasons = packed.packing.kept_float
    assert list(reasons) == ['6', '7', '8', '9']
    assert reasons['6'] == 'OwnConv has a forward of its own'
    assert reasons['7'] == 'it is a ConvTranspose2d, not a Conv2d'
    assert reasons['8'] == 'it has hooks, or a weight that is computed'
    assert reasons['9'] == 'it is depthwise, which is faster in float32'
    for line in (f'in {real}: 0', 'in float32: 6: OwnConv has a forward of its own'):
        assert line in str(packed.packing).splitlines()
    # the parts before and after the binary layer, since a sign of a number near 0 may differ
    x, inner = images()[0], torch.randn(1, 16, 10, 10)
    for part, given in ((slice(3), x), (slice(5, None), inner)):
        expected, found = (m[part](given) for m in (model, packed))
        assert not torch.equal(found, expected)
        atol = 0.03 * float(expected.abs().max())
        torch.testing.assert_close(found, expected, rtol=0, atol=atol)


@torch.no_grad()
def test_a_layer_that_the_images_do_not_reach_stays_in_float32():
    class Skips(nn.Sequential):
        def forward(self, x):
            return self[0](x) * self[1].weight.mean()

    model = Skips(
        nn.Sequential(nn.Conv2d(3, 8, 1), surge_mm.SurgeConv2d(8, 8, 1)), nn.Conv2d(8, 8, 1)
    )
    packed = pack(model, 'int8', images())
    assert type(packed[1]) is nn.Conv2d
    assert 'gave it no input' in packed.packing.kept_float['1']
    packed(images()[0])


def test_a_shared_convolution_is_replaced_once_and_stays_shared():
    shared = nn.Conv2d(3, 3, 1)
    model = nn.Sequential(shared, surge_mm.SurgeConv2d(3, 3, 1), shared)
    packed = pack(model, 'int8', images())
    assert isinstance(packed[0], Int8Conv2d) and packed[0] is packed[2]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('int4',), "real='int4' must be one of 'float32', 'bfloat16', 'int8'"),
        (('int8',), "real='int8' needs images, on which the ranges"),
        (('int8', []), 'calibration has no images'),
        (('bfloat16', [1]), "calibration is for real='int8', and real='bfloat16' takes none"),
    ],
)
def test_an_unknown_dtype_and_missing_images_are_errors(arguments, message):
    model = network().train()
    with pytest.raises(UsageError, match=message):
        pack(model, *arguments)
    assert model.training and model[3].weight.requires_grad  # left as it was


def test_tensors_for_a_detector_of_two_stages_are_refused_before_it_is_changed():
    model = network()
    model.roi_head = nn.Identity()
    before = [type(module) for module in model.modules()]
    with pytest.raises(UsageError, match='two stages.*pass the batches of a data loader'):
        pack(model, 'int8', images())
    assert [type(module) for module in model.modules()] == before


@torch.no_grad()
@pytest.mark.parametrize('real', KINDS)
def test_a_detector_comes_back_from_its_file_to_the_bit(real, detector, tmp_path):
    cfg, packed = detector
    model, path = packed[real], tmp_path / 'a.safetensors'
    assert set(model.packing.real) > REAL_OF_FCOS and not model.packing.kept_float
    save_packed(model, path, cfg)
    loaded = load_packed(path)
    assert loaded.packing == model.packing
    image = torch.randint(0, 256, (64, 64, 3), dtype=torch.uint8).numpy()
    x = torch.randn(1, 3, 64, 64)
    for one, other in zip(model(x), loaded(x), strict=True):
        assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))
    found, detector = inference_detector(loaded, image).pred_instances, Detector(path)
    assert len(found) > 0 and detector.image_input.channels_last
    assert np.array_equal(detector(image).boxes, found.bboxes.numpy())
    for one, other in zip(packed['float32'](x), loaded(x), strict=True):
        assert not any(torch.equal(*pair) for pair in zip(one, other, strict=True))

    plain = tmp_path / 'b.safetensors'
    save_packed(packed['float32'], plain, cfg)
    before, after = (sizes_of(read_packed(file), m, 10**6)['real layers'] for file, m in (
        (plain, packed['float32']), (path, model)
    ))  # fmt: skip
    assert after[1] < {'int8': 0.5, 'bfloat16': 0.6}[real] * before[1]


def version_of(path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_format, 'VERSION', 0)
        with pytest.raises(CheckpointError, match='it has version . of the format') as error:
            read_packed(path)
    return str(error.value).partition('version ')[2][0]


def test_only_files_with_such_layers_have_the_new_version(detector, tmp_path):
    cfg, packed = detector
    for real, version in (('float32', '1'), ('int8', '4')):
        save_packed(packed[real], tmp_path / f'{real}.safetensors', cfg)
        assert version_of(tmp_path / f'{real}.safetensors') == version


@torch.no_grad()
@pytest.mark.parametrize('real', KINDS)
def test_a_model_without_config_is_saved_and_loaded(real, tmp_path):
    model, (x, *_) = pack(network(), real, calibration(real)), images()
    save_packed(model, tmp_path / 'a.safetensors')
    assert version_of(tmp_path / 'a.safetensors') == '4'
    for given in (network(), pack(network()), pack(network(), real, calibration(real))):
        assert torch.equal(load_packed(tmp_path / 'a.safetensors', model=given)(x), model(x))


@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        ('real.layers', {'neck': []}, "'neck' is in int8 in the file, and no such convolution"),
        ('real.layers', {'backbone.layer1.0.blocks.0.conv1': []}, 'no such convolution'),
        ('real.layers', {'bbox_head.conv_cls': ['neck']}, 'are no norm, activation and pool'),
        ('real.layers', {'bbox_head.conv_cls': ['no.such']}, 'are no norm, activation and pool'),
        ('real.layers', {}, 'must have a dtype'),
        ('real.layers', ['bbox_head.conv_cls'], 'must have a dtype'),
        ('real.layers', {'bbox_head.conv_cls': [1]}, 'must have a dtype'),
        ('real.dtype', 'int4', 'must have a dtype of bfloat16, int8'),
        ('real', None, 'must have a dtype'),
        ('real.dtype', 'bfloat16', 'tensors differ'),
    ],
)
def test_a_file_with_other_layers_than_its_model_is_refused(
    key, value, message, detector, tmp_path
):
    cfg, packed = detector
    save_packed(packed['int8'], tmp_path / 'a.safetensors', cfg)
    other = changed(tmp_path / 'a.safetensors', config=setting(key, value))
    with pytest.raises(CheckpointError, match=message):
        load_packed(other)


def test_onnx_needs_the_checkpoint(detector, tmp_path):
    pytest.importorskip('onnx')
    with pytest.raises(UsageError, match='is packed, and ONNX has no operator'):
        export_onnx(detector[1]['int8'], tmp_path / 'a.onnx', (64, 64))
