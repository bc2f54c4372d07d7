import pytest
import torch
import torch.nn.functional as F
import torchvision
from mmengine.registry import DefaultScope
from mmengine.runner.checkpoint import load_state_dict
from torch import nn

from surge_mm import SurgeConv2d, SurgeResNet

SMALL = {'base_channels': 8, 'stem': 'light'}


@pytest.mark.parametrize('depth, expansion', [(18, 1), (34, 1), (50, 4)])
def test_outputs_have_the_strides_and_channels_of_a_resnet(depth, expansion):
    outputs = SurgeResNet(depth, base_channels=8)(torch.randn(1, 3, 65, 96))
    assert [tuple(out.shape) for out in outputs] == [
        (1, 8 * expansion, 17, 24),
        (1, 16 * expansion, 9, 12),
        (1, 32 * expansion, 5, 6),
        (1, 64 * expansion, 3, 3),
    ]


@pytest.mark.parametrize('stem', ['light', 'patch'])
def test_the_stems_of_small_networks_have_the_resolution_of_the_usual_one(stem):
    outputs = SurgeResNet(18, base_channels=8, stem=stem)(torch.randn(1, 3, 63, 96))
    assert [tuple(out.shape[2:]) for out in outputs] == [(16, 24), (8, 12), (4, 6), (2, 3)]


def resnet20(**options):
    return SurgeResNet(
        20,
        base_channels=16,
        num_stages=3,
        out_indices=(2,),
        stem='cifar',
        shortcut='pad',
        **options,
    )


def plain_shortcut(block, x):
    if not len(block.downsample):
        return x
    if block.downsample.stride == 2:  # windows of two, at an odd edge of what is there
        rows = [x[..., i : i + 2, :].mean(-2, keepdim=True) for i in range(0, x.shape[-2], 2)]
        x = torch.cat(rows, -2)
        columns = [x[..., i : i + 2].mean(-1, keepdim=True) for i in range(0, x.shape[-1], 2)]
        x = torch.cat(columns, -1)
    return block.downsample[1](block.downsample[0](x))


@pytest.mark.parametrize('layer, block', [('layer1', 0), ('layer2', 0), ('layer2', 1)])
def test_a_basic_block_has_a_shortcut_round_each_convolution_and_acts_after_the_sum(layer, block):
    torch.manual_seed(0)
    block = getattr(SurgeResNet(18, **SMALL), layer)[block].eval()
    x = torch.randn(2, block.conv1.in_channels, 7, 9)
    y = block.act1(block.bn1(block.conv1(x)) + plain_shortcut(block, x))
    expected = block.act2(block.bn2(block.conv2(y)) + y)
    torch.testing.assert_close(block(x), expected)


def test_a_bottleneck_has_a_shortcut_round_its_binary_convolution_and_one_round_all():
    torch.manual_seed(0)
    block = SurgeResNet(50, **SMALL).layer2[0].eval()
    x = torch.randn(2, block.conv1.in_channels, 8, 8)
    y = block.act1(block.bn1(block.conv1(x)))
    y = block.act2(block.bn2(block.conv2(y)) + F.avg_pool2d(y, 2))
    expected = block.act3(block.bn3(block.conv3(y)) + plain_shortcut(block, x))
    torch.testing.assert_close(block(x), expected)


def test_weights_start_by_kaiming_and_norms_as_the_identity():
    model = SurgeResNet(18)
    model.init_weights()
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000:
            fan_out = module.weight[:, 0].numel()
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and (module.bias == 0).all()


def test_resnet_20_has_the_published_number_of_weights():
    convolutions = [m for m in resnet20().modules() if isinstance(m, nn.Conv2d)]
    # 0.27 M parameters (He et al., arXiv 1512.03385, table 6), 650 of them in the classifier
    assert sum(m.weight.numel() for m in convolutions) == 267_696
    assert sum(isinstance(m, SurgeConv2d) for m in convolutions) == 18
    (out,) = resnet20()(torch.randn(2, 3, 32, 32))
    assert out.shape == (2, 64, 8, 8)


def test_padding_shortcut_adds_channels_of_zeros_on_both_sides():
    shortcut = resnet20().layer2[0].downsample
    x = torch.randn(2, 16, 8, 8)
    out = shortcut(x)
    assert not list(shortcut.parameters())
    assert torch.equal(out[:, 8:24], F.avg_pool2d(x, 2))
    assert torch.equal(out[:, :8], torch.zeros(2, 8, 4, 4))
    assert torch.equal(out[:, 24:], torch.zeros(2, 8, 4, 4))


def test_a_shortcut_round_the_block_is_that_of_an_ordinary_resnet():
    act_cfg = {'type': 'ReLU'}
    model = resnet20(shortcut_around='block', conv_cfg=None, act_cfg=act_cfg).eval()
    block, x = model.layer1[1], torch.randn(2, 16, 8, 8)
    inner = torch.relu(block.bn1(block.conv1(x)))
    expected = torch.relu(block.bn2(block.conv2(inner)) + x)
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize('depth, binary', [(18, 16), (34, 32), (50, 16)])
def test_every_3x3_is_binary_and_stem_shortcuts_and_1x1_are_not(depth, binary):
    model = SurgeResNet(depth, base_channels=8)
    convs = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    assert sum(isinstance(m, SurgeConv2d) for m in convs.values()) == binary
    for name, conv in convs.items():
        real = name == 'conv1' or conv.kernel_size == (1, 1)
        assert isinstance(conv, SurgeConv2d) != real, name


@pytest.mark.parametrize('scope, name', [('mmdet', 'mmdet'), ('mmpretrain', 'mmpretrain')])
def test_builds_by_dotted_name_in_both_hosts(scope, name):
    registry = __import__(f'{name}.registry', fromlist=['MODELS']).MODELS
    with DefaultScope.overwrite_default_scope(scope):
        assert isinstance(
            registry.build({'type': 'surge_mm.SurgeResNet', 'depth': 18}), SurgeResNet
        )


@pytest.mark.parametrize('depth', [18, 34, 50])
@pytest.mark.parametrize('conv_cfg', [{'type': 'surge_mm.SurgeConv2d'}, None])
def test_public_checkpoint_initializes_it(depth, conv_cfg):
    public = getattr(torchvision.models, f'resnet{depth}')().state_dict()
    model = SurgeResNet(depth, conv_cfg=conv_cfg, act_cfg={'type': 'Hardtanh'})
    result = model.load_state_dict(public, strict=False)
    assert not result.missing_keys
    assert result.unexpected_keys == ['fc.weight', 'fc.bias']
    assert torch.equal(model.layer3[1].conv2.weight, public['layer3.1.conv2.weight'])
    assert torch.equal(model.layer2[0].downsample[0].weight, public['layer2.0.downsample.0.weight'])


@pytest.mark.parametrize('depth, other', [(18, 34), (34, 18), (50, 34), (34, 50)])
def test_checkpoint_of_another_depth_is_rejected(depth, other):
    checkpoint = SurgeResNet(other, base_channels=8).state_dict()
    state = {f'backbone.{key}': value for key, value in checkpoint.items()}
    detector = nn.Module()
    detector.backbone = SurgeResNet(depth, base_channels=8)
    before = detector.backbone.layer1[0].conv1.weight.clone()
    with pytest.raises(
        ValueError, match=rf'does not match SurgeResNet\(depth={depth}, base_channels=8\)'
    ):
        load_state_dict(detector, state, strict=False)
    assert torch.equal(detector.backbone.layer1[0].conv1.weight, before)


def test_checkpoint_of_another_width_is_rejected():
    checkpoint = SurgeResNet(18, base_channels=16).state_dict()
    with pytest.raises(ValueError, match='base_channels'):
        SurgeResNet(18, base_channels=8).load_state_dict(checkpoint, strict=False)


def test_checkpoint_of_a_head_alone_passes():
    SurgeResNet(18, **SMALL).load_state_dict({'fc.weight': torch.zeros(3)}, strict=False)


@pytest.mark.parametrize(
    'act_cfg', [{'type': 'Hardtanh'}, {'type': 'PReLU'}, {'type': 'surge_mm.RPReLU'}]
)
@pytest.mark.parametrize('depth', [18, 50])
def test_every_parameter_gets_a_gradient(depth, act_cfg):
    model = SurgeResNet(depth, act_cfg=act_cfg, **SMALL)
    sum(out.square().mean() for out in model(torch.randn(2, 3, 64, 64))).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_checkpointed_blocks_have_the_same_gradients():
    x = torch.randn(2, 3, 64, 64)
    gradients = []
    for with_cp in (False, True):
        torch.manual_seed(0)
        model = SurgeResNet(18, with_cp=with_cp, **SMALL)
        model(x)[-1].square().mean().backward()
        gradients.append([p.grad for p in model.parameters()])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)


def test_forward_is_bit_identical_with_and_without_compensators():
    outputs = []
    for compensator in ({'eta': 0.1, 'init': 'kaiming'}, None):
        torch.manual_seed(0)
        cfg = {'type': 'surge_mm.SurgeConv2d', 'compensator': compensator}
        model = SurgeResNet(18, conv_cfg=cfg, **SMALL)
        outputs.append(model(torch.ones(2, 3, 64, 64).cumsum(-1)))
    for first, second in zip(*outputs, strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize('frozen', [0, 1, 4])
def test_frozen_stages_stay_frozen_in_training(frozen):
    model = SurgeResNet(18, frozen_stages=frozen, **SMALL).train()
    for stage in range(1, 5):
        layer = getattr(model, f'layer{stage}')
        assert all(p.requires_grad != (stage <= frozen) for p in layer.parameters())
        assert all(m.training != (stage <= frozen) for m in layer.modules())
    assert not any(p.requires_grad for p in model.bn1.parameters())


def test_layers_behind_frozen_stages_get_gradients():
    model = SurgeResNet(18, frozen_stages=1, **SMALL)
    model(torch.randn(2, 3, 64, 64))[-1].square().mean().backward()
    assert model.layer2[0].conv1.aux_weight.grad.norm() > 0


def test_norm_eval_keeps_running_statistics():
    model = SurgeResNet(18, norm_eval=True, **SMALL).train()
    before = model.bn1.running_mean.clone()
    model(torch.randn(2, 3, 64, 64))
    assert torch.equal(model.bn1.running_mean, before)


@pytest.mark.parametrize(
    'kwargs, message',
    [
        ({'depth': 101}, 'depth=101'),
        ({'out_indices': (4,)}, 'out_indices'),
        ({'num_stages': 3}, 'out_indices'),
        ({'frozen_stages': 5}, 'frozen_stages=5'),
        ({'stem': 'vgg'}, "stem='vgg'"),
        ({'style': 'caffe'}, "style='caffe'"),
        ({'shortcut': 'none'}, "shortcut='none'"),
        ({'shortcut_around': 'stage'}, "shortcut_around='stage'"),
        ({'depth': 20}, 'num_stages=4 must be 1 to 3 for depth=20'),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        SurgeResNet(**{'depth': 18, **kwargs})
