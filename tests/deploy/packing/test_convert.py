"""Whole models: packed against what they were, to the bit."""

import copy
from pathlib import Path

import pytest
import torch
from helpers.narrow import NARROW, config
from helpers.samples import detection_batch
from helpers.trained import channels_last, trained
from mmengine.registry import MODELS, DefaultScope
from torch import nn

import surge_mm
from surge_mm.deploy import PackedConv2d, PackedLinear, pack, strip
from surge_mm.layers import BinaryLayer, compensated_layers
from surge_mm.layers.memory_format import to_channels_last
from surge_mm.utils.errors import UsageError

CONFIGS = Path(__file__).parents[3] / 'configs'
HARDTANH = {'type': 'Hardtanh'}
RPRELU = {'type': 'surge_mm.RPReLU'}
BACKBONES = {
    'ResNet-18': (surge_mm.SurgeResNet, {'depth': 18}, 16),
    'shortcut round blocks': (
        surge_mm.SurgeResNet,
        {'depth': 18, 'shortcut_around': 'block', 'act_cfg': HARDTANH},
        16,
    ),
    'padded shortcut': (
        surge_mm.SurgeResNet,
        {'depth': 20, 'num_stages': 3, 'stem': 'cifar', 'shortcut': 'pad', 'out_indices': (2,)},
        18,
    ),
    'dilated': (
        surge_mm.SurgeResNet,
        {'depth': 18, 'dilations': (1, 1, 2, 4), 'stem': 'light'},
        16,
    ),
    'ResNet-50': (surge_mm.SurgeResNet, {'depth': 50, 'act_cfg': RPRELU}, 16),
    'AdaBin': (
        surge_mm.SurgeResNet,
        {'depth': 18, 'conv_cfg': {'type': 'surge_mm.SurgeConv2d', 'weight': {'type': 'AdaBin'}}},
        16,
    ),
    'ReActNet-A': (surge_mm.ReActNetA, {}, 13 + 13 + 5),
    'VGG-Small': (surge_mm.SurgeVGGSmall, {}, 5),
}


@torch.no_grad()
@pytest.mark.parametrize('name', BACKBONES)
def test_a_packed_backbone_gives_the_same_features(name):
    kind, settings, count = BACKBONES[name]
    model = trained(kind(base_channels=32, **settings))
    packed = pack(copy.deepcopy(model))
    assert len(packed.packing.packed) == count and not packed.packing.kept
    assert not any(isinstance(m, BinaryLayer) for m in packed.modules())
    x = torch.randn(2, 3, 32 if name == 'VGG-Small' else 64, 32 if name == 'VGG-Small' else 96)
    for before, after in zip(channels_last(model)(x), packed(x), strict=True):
        assert torch.equal(before, after)


def test_in_blocks_norms_and_activations_are_folded_in():
    packed = pack(surge_mm.SurgeResNet(18))
    stages = [packed.layer1, packed.layer2, packed.layer3, packed.layer4]
    for stage in stages:
        kinds = {type(m).__name__ for m in stage.modules()}
        assert kinds <= {
            'Sequential', 'PackedStage', 'ModuleList', 'PackedBasicBlock', 'PackedConv2d', 'Epilogue', 'Shortcut',
            'Conv2d', 'BatchNorm2d',
        }  # fmt: skip
        assert sum(isinstance(m, nn.BatchNorm2d) for m in stage.modules()) == (
            stage is not stages[0]
        )


@torch.no_grad()
@pytest.mark.parametrize('family', NARROW)
def test_a_packed_detector_makes_the_same_detections(family, tmp_path):
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = trained(MODELS.build(config(family, tmp_path, tmp_path).model))
        with_masks = family.startswith('mask')
        packed = pack(copy.deepcopy(model))
        assert type(packed) is type(model)
        assert any('bbox_head' in n or 'rpn' in n or 'neck' in n for n in packed.packing.packed)
        batch = detection_batch(with_masks=with_masks)
        for before, after in zip(
            channels_last(model).test_step(batch), packed.test_step(batch), strict=True
        ):
            one, other = before.pred_instances, after.pred_instances
            assert len(one) > 0
            assert torch.equal(one.scores, other.scores) and torch.equal(one.bboxes, other.bboxes)


@torch.no_grad()
def test_a_packed_transformer_classifier_gives_the_same_scores():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        cfg = {
            'type': 'surge_mm.Binarized',
            'base_type': 'mmpretrain.ImageClassifier',
            'backbone': {
                'type': 'VisionTransformer',
                'arch': 'deit-t',
                'img_size': 32,
                'patch_size': 8,
            },
            'head': {'type': 'VisionTransformerClsHead', 'num_classes': 10, 'in_channels': 192},
            'rules': [{'type': 'Linear', 'name': 'backbone.layers.*', 'to': 'binary'}],
        }
        model = trained(MODELS.build(cfg))
        packed = pack(copy.deepcopy(model))
        assert sum(isinstance(m, PackedLinear) for m in packed.modules()) == 12 * 4
        x = torch.randn(2, 3, 32, 32)
        before, after = (m(x, mode='tensor')[-1] for m in (channels_last(model), packed))
        torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-4)


def test_a_shared_layer_is_packed_once_and_stays_shared():
    shared = surge_mm.SurgeConv2d(8, 8, 3, padding=1)
    model = nn.ModuleDict({'one': shared, 'two': nn.ModuleList([shared])}).eval()
    x = torch.randn(1, 8, 9, 9)
    with torch.no_grad():
        expected = shared(x)
        assert pack(model) is model
        assert isinstance(model['one'], PackedConv2d) and model['one'] is model['two'][0]
        assert torch.equal(model['one'](x), expected)


def test_a_shared_layer_before_different_norms_is_packed_with_each():
    shared = surge_mm.SurgeConv2d(8, 8, 3, padding=1)
    model = nn.ModuleList([nn.Sequential(shared, nn.BatchNorm2d(8)) for _ in range(2)])
    trained(model).eval()
    x = torch.randn(1, 8, 9, 9)
    with torch.no_grad():
        expected = [branch(x) for branch in model]
        pack(model)
        for branch, out in zip(model, expected, strict=True):
            assert isinstance(branch[0], PackedConv2d)
            torch.testing.assert_close(branch(x), out)
    assert not torch.equal(*expected)


@torch.no_grad()
def test_layers_that_cannot_be_packed_stay_and_are_listed():
    model = nn.Sequential(
        surge_mm.SurgeConv2d(8, 8, 3, weight={'type': 'Real'}),
        nn.PReLU(8),
        surge_mm.SurgeConv2d(8, 8, 3),
    ).eval()
    packed = pack(copy.deepcopy(model))
    assert packed.packing.packed == ('2',)
    assert 'not of two values' in packed.packing.kept['0']
    assert repr(packed.packing) == str(packed.packing)
    assert str(packed.packing).startswith('1 binary layers packed\nkept: 0: its weights are Real')
    x = torch.randn(1, 8, 9, 9)
    assert torch.equal(packed(x), channels_last(model)(x))


@torch.no_grad()
def test_a_norm_without_running_statistics_is_kept_after_the_packed_layer():
    model = nn.Sequential(
        surge_mm.SurgeConv2d(16, 16, 3), nn.BatchNorm2d(16, track_running_stats=False), nn.PReLU(16)
    ).eval()
    packed = pack(copy.deepcopy(model))
    assert isinstance(packed[0], PackedConv2d) and isinstance(packed[1], nn.BatchNorm2d)
    x = torch.randn(2, 16, 9, 9)
    torch.testing.assert_close(packed(x), model(x))


@torch.no_grad()
@pytest.mark.parametrize('hooked', [0, 1, 2])
def test_a_module_with_a_forward_hook_is_not_folded(hooked):
    model = nn.Sequential(
        surge_mm.SurgeConv2d(8, 8, 3), nn.BatchNorm2d(8), nn.PReLU(8), surge_mm.SurgeConv2d(8, 8, 3)
    ).eval()
    model[hooked].register_forward_hook(lambda module, args, output: output * 2)
    x = torch.randn(1, 8, 9, 9)
    expected = channels_last(copy.deepcopy(model))(x)
    packed = pack(model)
    torch.testing.assert_close(packed(x), expected)
    if hooked:
        assert packed.packing.unfused[str(hooked)].endswith('has forward hooks')
    else:
        assert (
            packed.packing.kept['0'] == 'it has a forward hook, which a packed layer would not call'
        )


@torch.no_grad()
@pytest.mark.parametrize('real', ['float32', 'int8'])
def test_a_model_in_channels_last_is_packed_as_any_other(real):
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), surge_mm.SurgeConv2d(8, 8, 3), nn.BatchNorm2d(8), nn.PReLU(8)
    ).eval()
    x = torch.randn(1, 3, 9, 9)
    images = [x] if real == 'int8' else None
    expected = pack(copy.deepcopy(model), real, images)
    packed = pack(to_channels_last(model), real, images)  # which has hooks for Tensor.view
    assert packed.packing == expected.packing and not packed.packing.unfused
    assert packed.packing.real == ({} if real == 'float32' else {'0': 'int8'})
    assert torch.equal(packed(x), expected(x))


@pytest.mark.parametrize(
    ('model', 'said'),
    [
        (nn.Conv2d(3, 3, 3), 'Conv2d has no binary layer, so there is nothing to pack'),
        (surge_mm.SurgeResNet(18, conv_cfg=None), 'SurgeResNet has no binary layer'),
        (surge_mm.SurgeConv2d(3, 3, 3, weight={'type': 'Real'}), 'none of the 1 binary layers'),
    ],
    ids=['a layer', 'full precision', 'weights that are not binary yet'],
)
def test_a_model_with_nothing_to_pack_is_refused(model, said):
    with pytest.raises(UsageError, match=said):
        pack(model)


def test_packing_twice_is_refused():
    packed = pack(surge_mm.SurgeResNet(18, base_channels=16))
    with pytest.raises(UsageError, match='packed already'):
        pack(packed)


@pytest.mark.parametrize('change', [surge_mm.to_float, surge_mm.binarize])
def test_a_packed_model_is_neither_binarized_nor_made_real(change):
    model = nn.Sequential(
        nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.GroupNorm(2, 8), nn.ReLU()
    )
    surge_mm.binarize(model)
    packed, x = pack(model), torch.randn(1, 8, 9, 9)
    before = packed(x)
    with pytest.raises(UsageError, match='Sequential is packed: .* pack a copy'):
        change(packed)
    assert isinstance(packed[4], nn.LeakyReLU) and torch.equal(packed(x), before)


def test_a_packed_model_is_not_put_into_training_mode():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3))
    surge_mm.binarize(model)
    packed, x = pack(model), torch.randn(2, 3, 9, 9)
    before = packed(x)
    for step in (packed.train, lambda: packed(x)):  # a notebook that goes on after the first error
        with pytest.raises(UsageError, match=r'the model is packed.* call model.eval\(\)'):
            step()
    assert not any(m.training for m in packed.train(False).modules())
    assert packed(x).shape == before.shape
    assert not pack(surge_mm.SurgeConv2d(8, 8, 3)).training


def test_a_refused_model_is_left_as_it_was():
    model = surge_mm.SurgeConv2d(3, 3, 3, weight={'type': 'Real'})
    with pytest.raises(UsageError):
        pack(model)
    assert model.training and model.aux_weight is not None and model.weight.requires_grad


@torch.no_grad()
def test_stripping_drops_the_branch_and_keeps_the_output():
    model = trained(surge_mm.SurgeResNet(18, base_channels=16, with_cp=True))
    x = torch.randn(1, 3, 64, 64)
    before = model(x)
    stripped = strip(model)
    assert stripped is model and not stripped.training
    assert not any('aux_weight' in key for key in stripped.state_dict())
    assert not list(compensated_layers(stripped))
    assert not any(p.requires_grad for p in stripped.parameters())
    for one, other in zip(before, stripped(x), strict=True):
        assert torch.equal(one, other)


def test_a_host_whose_train_returns_nothing_is_packed():
    """MMDetection's detectors that are trained by a teacher override ``train`` so, and ``eval`` returns the same."""

    class Distilled(nn.Sequential):
        def train(self, mode=True):
            super().train(mode)

    model = Distilled(surge_mm.SurgeConv2d(8, 8, 3))
    assert pack(model) is model and isinstance(model[0], PackedConv2d) and not model.training


def test_a_stripped_state_loads_into_a_model_with_branches():
    stripped = strip(surge_mm.SurgeResNet(18, base_channels=16))
    surge_mm.SurgeResNet(18, base_channels=16).load_state_dict(stripped.state_dict())


def test_the_binary_layers_of_a_packed_model_are_25_times_smaller():
    model = surge_mm.SurgeResNet(18)
    real = sum(4 * m.weight.numel() for m in model.modules() if isinstance(m, BinaryLayer))
    packed = pack(model)
    layers = [m for m in packed.modules() if isinstance(m, PackedConv2d)]
    stored = sum(
        m.signs.nbytes + m.epilogue.m1.nbytes for m in layers
    )  # what batch norms and activations leave is counted with them
    assert real / stored > 25
