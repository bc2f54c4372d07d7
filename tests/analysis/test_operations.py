"""Operations and bits against counts by hand and published numbers."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from surge_mm import SurgeConv2d, SurgeLinear, SurgeResNet, binarize
from surge_mm.analysis.operations import count_costs
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
    costs = count_costs(model, 10, 14)
    pixels = 5 * 7
    by_hand = {
        '0': (pixels * 8 * 3 * 9, 0, 32 * 8 * 3 * 9),
        # one bit a weight; a scale and a bias for each of 12 filters
        '1': (0, pixels * 12 * 4 * 9, 12 * 4 * 9 + 32 * 2 * 12),
        '5': (0, 12 * 7, 12 * 7 + 32 * 7),
        '6': (7 * 5, 0, 32 * (7 * 5 + 5)),
    }
    assert {x.name: (x.flops, x.bops, x.bits) for x in costs.layers} == by_hand
    assert costs.ops == pixels * 216 + 35 + (pixels * 432 + 84) / 64
    assert costs.size.total == sum(bits for _, _, bits in by_hand.values()) + 32 * 24  # norm
    assert costs.other == 0
    assert model.training


def test_imagenet_resnet18_has_the_published_operations():
    cfg = Config.fromfile(ROOT / 'configs/imagenet/resnet18_200e_imagenet_surge.py')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        costs = count_costs(MODELS.build(cfg.model), 224, 224)
    assert costs.ops == pytest.approx(1.63e8, rel=0.01)  # Bi-Real Net, arXiv 1808.00278
    # by hand: stem, three 1x1 shortcuts, classifier; four stages of 3x3
    flops = 112**2 * 64 * 3 * 49 + 28**2 * 128 * 64 + 14**2 * 256 * 128 + 7**2 * 512 * 256 + 512000
    one = 56**2 * 64 * 64 * 9  # the same in every stage, half of it where channels double
    assert costs.flops == flops
    assert costs.bops == 4 * one + 3 * (one // 2 + 3 * one)


def test_full_precision_resnet_has_the_operations_of_torchvision():
    costs = count_costs(SurgeResNet(50, conv_cfg=None), 224, 224)
    # 4.09e9 in torchvision's table; stride before the 1x1 shortcuts does not change their count
    assert costs.flops + 2048 * 1000 == pytest.approx(4.09e9, rel=0.002)
    assert costs.bops == 0


def test_shared_layers_are_counted_where_they_are_used_and_stored_once():
    shared = nn.Conv2d(16, 16, 3, padding=1, bias=False)
    model = nn.Sequential(shared, nn.ReLU(), shared)
    binarize(model)
    costs = count_costs(nn.Sequential(nn.Conv2d(3, 16, 1), model), 6, 6)
    layer = costs.layers[1]
    assert layer.bops == 2 * 36 * 16 * 16 * 9
    assert layer.bits == 16 * 16 * 9 + 32 * 16


def test_attention_is_counted_apart():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = nn.Linear(3, 3)

        def forward(self, x):
            x = self.qkv(x.flatten(2).transpose(1, 2))
            return nn.functional.scaled_dot_product_attention(x, x, x)

    costs = count_costs(Tokens(), 2, 4)
    assert costs.flops == 8 * 3 * 3
    assert costs.other == 2 * 8 * 8 * 3


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
    costs = count_costs(model, 2, 4)
    embed, attention = costs.layers
    assert embed.flops == 8 * 16 * 3
    assert attention.flops == 8 * 4 * 16 * 16  # query, key, value and output
    assert attention.bits == 32 * (4 * 16 * 16 + 4 * 16)
    assert costs.other == 2 * 8 * 8 * 16


def test_training_modes_come_back_and_what_cannot_run_is_said():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3))
    model[1].eval()
    count_costs(model, 9, 9)
    assert [m.training for m in model.modules()] == [True, True, False, True]
    with pytest.raises(UsageError, match='does not run on one image of 2 x 9 pixels'):
        count_costs(model, 2, 9)
    assert [m.training for m in model.modules()] == [True, True, False, True]


def test_rules_of_the_layers_are_told():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3))
    binarize(model, [{'name': '2', 'to': 'keep'}])
    told = [(x.binary, x.rule) for x in count_costs(model, 9, 9).layers]
    assert told == [(False, 'default: stem'), (True, 'default: 3x3'), (False, 'rules[0]')]
