import torch
from torch import nn

from surge_mm import SurgeConv2d, SurgeVGGSmall


def test_structure_is_the_published_one():
    model = SurgeVGGSmall()
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert [m.out_channels for m in convolutions] == [128, 128, 256, 256, 512, 512]
    assert [isinstance(m, SurgeConv2d) for m in convolutions] == [False] + [True] * 5
    # 4.66 M parameters in all, of which the classifier on 8192 features has 82 thousand
    assert sum(m.weight.numel() for m in convolutions) == 4_574_592
    (features,) = model(torch.randn(2, 3, 32, 32))
    assert features.shape == (2, 8192)


def test_every_parameter_gets_a_gradient():
    model = SurgeVGGSmall(base_channels=8)
    model(torch.randn(2, 3, 16, 16))[0].square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_without_conv_cfg_it_is_the_full_precision_network():
    model = SurgeVGGSmall(base_channels=8, conv_cfg=None)
    assert not any(isinstance(m, SurgeConv2d) for m in model.modules())
