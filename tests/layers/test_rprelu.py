import torch
from mmcv.cnn import ConvModule

from surge_mm import RPReLU


def test_rprelu_shifts_before_and_after_a_prelu():
    torch.manual_seed(0)
    layer = RPReLU(3).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    a, c, slope = (p.view(3, 1, 1) for p in (layer.a, layer.c, layer.prelu.weight))
    shifted = x + a
    expected = torch.where(shifted > 0, shifted, slope * shifted) + c
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)


def test_rprelu_serves_a_conv_module():
    module = ConvModule(2, 4, 3, act_cfg={'type': 'surge_mm.RPReLU', 'num_channels': 4})
    assert module(torch.randn(1, 2, 5, 5)).shape == (1, 4, 3, 3)
