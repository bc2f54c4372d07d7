"""Operations and sizes against counts by hand and published numbers."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm

from surge_mm import SurgeConv2d, SurgeLinear, SurgeResNet, binarize
from surge_mm.analysis.complexity import model_complexity, model_size
from surge_mm.utils.errors import UsageError

ROOT = Path(__file__).parents[2]


def test_small_network_agrees_with_a_count_by_hand():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        SurgeConv2d(8, 12, 3, padding=1, groups=2, bias=True),
        nn.BatchNorm2d(12),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        SurgeLinear(12, 7, weight={'type': 'Sign'}),
        nn.Linear(7, 5),
    )
    complexity = model_complexity(model, 10, 14)
    pixels = 5 * 7
    by_hand = {
        '0': (pixels * 8 * 3 * 9, 0, 32 * 8 * 3 * 9),
        # one bit a weight; a scale and a bias for each of 12 filters
        '1': (0, pixels * 12 * 4 * 9, 12 * 4 * 9 + 32 * 2 * 12),
        '5': (0, 12 * 7, 12 * 7 + 32 * 7),
        '6': (7 * 5, 0, 32 * (7 * 5 + 5)),
    }
    assert {x.name: (x.flops, x.bops, x.bits) for x in complexity.layers} == by_hand
    assert complexity.ops == pixels * 216 + 35 + (pixels * 432 + 84) / 64
    assert complexity.size.total == sum(bits for _, _, bits in by_hand.values()) + 32 * 24  # norm
    assert complexity.other == 0
    assert model.training


def test_imagenet_resnet18_has_the_published_operations():
    cfg = Config.fromfile(ROOT / 'configs/resnet/surge_resnet18_200e_in1k.py')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        complexity = model_complexity(MODELS.build(cfg.model), 224, 224)
    assert complexity.ops == pytest.approx(1.63e8, rel=0.01)  # Bi-Real Net, arXiv 1808.00278
    # by hand: stem, three 1x1 shortcuts, classifier; four stages of 3x3
    flops = 112**2 * 64 * 3 * 49 + 28**2 * 128 * 64 + 14**2 * 256 * 128 + 7**2 * 512 * 256 + 512000
    layer = 56**2 * 64 * 64 * 9  # the same in every stage, half of it where channels double
    assert complexity.flops == flops
    assert complexity.bops == 4 * layer + 3 * (layer // 2 + 3 * layer)


def test_full_precision_resnet_has_the_operations_of_torchvision():
    complexity = model_complexity(SurgeResNet(50, conv_cfg=None), 224, 224)
    # 4.09e9 in torchvision's table; stride before the 1x1 shortcuts does not change their count
    assert complexity.flops + 2048 * 1000 == pytest.approx(4.09e9, rel=0.002)
    assert complexity.bops == 0


def test_shared_layers_are_counted_where_they_are_used_and_stored_once():
    shared = nn.Conv2d(16, 16, 3, padding=1, bias=False)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    binarize(model)
    complexity = model_complexity(nn.Sequential(nn.Conv2d(3, 16, 1), model), 6, 6)
    layer = complexity.layers[1]
    assert layer.bops == 2 * 36 * 16 * 16 * 9
    assert layer.bits == 16 * 16 * 9 + 32 * 16


def test_layers_with_a_normalized_weight_are_counted():
    model = nn.Sequential(
        spectral_norm(nn.Conv2d(3, 8, 1)),
        spectral_norm(SurgeConv2d(8, 4, 3)),
        parametrizations.weight_norm(SurgeConv2d(4, 2, 1)),
    )
    complexity = model_complexity(model, 6, 7)
    counts = [(layer.name, layer.flops, layer.bops) for layer in complexity.layers]
    assert counts == [('0', 42 * 24, 0), ('1', 0, 20 * 8 * 4 * 9), ('2', 0, 20 * 8)]
    assert complexity.other == 0


class OfTokens(nn.Module):
    """A layer behind a transposition, whose input is not contiguous."""

    def __init__(self, layer):
        super().__init__()
        self.embed, self.layer = nn.Conv2d(3, 16, 1), layer

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        return (
            self.layer(x, x, x)[0]
            if isinstance(self.layer, nn.MultiheadAttention)
            else self.layer(x)
        )


@pytest.mark.parametrize('trains', [True, False])
@pytest.mark.parametrize(
    'make, flops, bops',
    [
        (lambda: nn.Linear(16, 32), 8 * 16 * 32, 0),
        (lambda: SurgeLinear(16, 32), 0, 8 * 16 * 32),
        (lambda: nn.MultiheadAttention(16, 4, batch_first=True), 8 * 16 * 16 * 4, 0),
    ],
    ids=['linear', 'binary', 'attention'],
)
def test_layers_are_counted_whatever_the_order_of_their_input_in_memory(make, flops, bops, trains):
    model = OfTokens(make().requires_grad_(trains))
    layer = model_complexity(model, 2, 4).layers[1]
    assert (layer.flops, layer.bops) == (flops, bops)
    assert all(parameter.requires_grad is trains for parameter in model.layer.parameters())


def test_attention_is_counted_apart():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = nn.Linear(3, 3)

        def forward(self, x):
            x = self.qkv(x.flatten(2).transpose(1, 2))
            return nn.functional.scaled_dot_product_attention(x, x, x)

    complexity = model_complexity(Tokens(), 2, 4)
    assert complexity.flops == 8 * 3 * 3
    assert complexity.other == 2 * 8 * 8 * 3


def test_multi_head_attention_is_one_layer_and_its_products_of_activations_are_apart():
    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Conv2d(3, 16, 1)
            self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

        def forward(self, x):
            x = self.embed(x).flatten(2).transpose(1, 2)
            return self.attention(x, x, x)[0]

    model = Encoder()
    complexity = model_complexity(model, 2, 4)
    embed, attention = complexity.layers
    assert embed.flops == 8 * 16 * 3
    assert attention.flops == 8 * 4 * 16 * 16  # query, key, value and output
    assert attention.bits == 32 * (4 * 16 * 16 + 4 * 16)
    assert complexity.other == 2 * 8 * 8 * 16


@pytest.mark.parametrize('kind', ['DCN', 'DCNv2'])
def test_a_deformable_convolution_and_the_layer_of_its_offsets_are_counted_once_each(kind):
    conv = MODELS.build({'type': kind, 'in_channels': 3, 'out_channels': 8, 'kernel_size': 3})
    complexity = model_complexity(nn.Sequential(conv, nn.Conv2d(8, 2, 1)), 6, 7)
    pixels, offsets = 4 * 5, 9 * (2 if kind == 'DCN' else 3)
    bias = 0 if kind == 'DCN' else 8
    assert [(layer.name, layer.flops, layer.bits) for layer in complexity.layers] == [
        ('0', pixels * 8 * 3 * 9, 32 * (8 * 3 * 9 + bias)),
        ('0.conv_offset', pixels * offsets * 3 * 9, 32 * offsets * (3 * 9 + 1)),
        ('1', pixels * 8 * 2, 32 * (8 * 2 + 2)),
    ]
    assert complexity.size.total == sum(layer.bits for layer in complexity.layers)
    assert complexity.other == 0
    assert not conv._forward_hooks


def test_the_image_has_the_channels_of_the_first_convolution():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 6, 1))
    assert [x.flops for x in model_complexity(model, 6, 7).layers] == [20 * 4 * 9, 20 * 4 * 6]


def test_training_modes_are_restored_and_an_image_that_does_not_fit_is_an_error():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3))
    model[1].eval()
    model_complexity(model, 9, 9)
    assert [m.training for m in model.modules()] == [True, True, False, True]
    with pytest.raises(UsageError, match='does not run on one image of 2 x 9: '):
        model_complexity(model, 2, 9)
    assert [m.training for m in model.modules()] == [True, True, False, True]


def test_the_rule_of_each_layer_is_reported():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3))
    binarize(model, [{'name': '2', 'to': 'keep'}])
    reported = [(x.binary, x.rule) for x in model_complexity(model, 9, 9).layers]
    assert reported == [(False, 'default: stem'), (True, 'default: 3x3'), (False, 'rules[0]')]


def test_size_of_a_network_counted_by_hand():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),  # 108 weights, 4 biases
        nn.BatchNorm2d(4),  # 8 numbers
        SurgeConv2d(4, 6, 3, bias=False),  # 216 signs, 6 scales
    )
    size = model_size(model)
    assert size.binary == 216
    assert size.real == 32 * (108 + 4 + 8 + 6)
    assert size.float == 32 * (108 + 4 + 8 + 216)
    assert size.total == 216 + 32 * 126


def test_auxiliary_weights_count_for_nothing():
    sizes = [model_size(SurgeConv2d(4, 6, 3, compensator=c)) for c in (None, {'eta': 0.1})]
    assert sizes[0] == sizes[1]


def test_shared_parameters_and_buffers_count_once_and_only_persistent_buffers_count():
    model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.Linear(3, 4, bias=False))
    assert model_size(model).float_bytes == 2 * 3 * 4 * 4
    model[1].weight = model[0].weight
    assert model_size(model).float_bytes == 3 * 4 * 4
    model.register_buffer('kept', torch.zeros(5))
    model.register_buffer('lost', torch.zeros(7), persistent=False)
    model[0].register_buffer('again', model.kept)
    size = model_size(model)
    assert size.buffers == 32 * 5
    assert size.total == size.float == 32 * 12
    assert size.float_bytes == 12 * 4 + 5 * 4
