"""Branches of the hosts that are merged for deployment: real ones are, binary ones are kept."""

import pytest
import torch
from mmpretrain.models import MobileOne, RepMLPNet, RepVGG

from surge_mm.deploy import pack


@torch.no_grad()
@pytest.mark.parametrize('build, arch', [(RepVGG, 'A0'), (MobileOne, 's0')])
def test_binary_branches_are_not_merged_for_deployment(build, arch):
    torch.manual_seed(0)
    image = torch.randn(1, 3, 64, 64)
    backbone = build(arch, conv_cfg={'type': 'surge_mm.SurgeConv2d'})
    backbone.eval()  # returns None
    expected = backbone(image)[-1]
    with pytest.raises(RuntimeError, match='branches of SurgeConv2d cannot be merged'):
        backbone.switch_to_deploy()
    assert torch.equal(backbone(image)[-1], expected)
    assert torch.equal(pack(backbone)(image)[-1], expected)


@torch.no_grad()
@pytest.mark.parametrize('build, arch', [(RepVGG, 'A0'), (MobileOne, 's0')])
def test_real_branches_are_merged(build, arch):
    torch.manual_seed(0)
    image = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    backbone = build(arch).double()
    backbone.eval()
    expected = backbone(image)[-1]
    backbone.switch_to_deploy()
    torch.testing.assert_close(backbone(image)[-1], expected)
    backbone.switch_to_deploy()  # a second call changes nothing


def test_branches_beside_binary_layers_are_merged():
    rep_mlp = RepMLPNet('b', img_size=64, conv_cfg={'type': 'surge_mm.SurgeConv2d'}).eval()
    rep_mlp.switch_to_deploy()
    rep_mlp(torch.randn(1, 3, 64, 64))
