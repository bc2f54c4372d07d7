"""A backbone loads checkpoints of its own network only, and is unchanged by those of others."""

import pytest
import torch
from mmengine.runner.checkpoint import save_checkpoint
from torch import nn

from surge_mm import ReActNetA, SurgeResNet, SurgeVGGSmall
from surge_mm.utils.errors import UsageError

NETWORKS = {
    'resnet18': lambda **kwargs: SurgeResNet(18, base_channels=8, **kwargs),
    'resnet20': lambda **kwargs: SurgeResNet(
        20, base_channels=8, num_stages=3, out_indices=(2,), **kwargs
    ),
    'resnet50': lambda **kwargs: SurgeResNet(50, base_channels=8, **kwargs),
    'vgg': lambda **kwargs: SurgeVGGSmall(base_channels=8, **kwargs),
    'wide-vgg': lambda **kwargs: SurgeVGGSmall(base_channels=16, **kwargs),
    'reactnet': lambda **kwargs: ReActNetA(base_channels=4, **kwargs),
}


@pytest.mark.parametrize('one', NETWORKS)
@pytest.mark.parametrize('other', NETWORKS)
def test_checkpoints_fit_their_own_network_alone(one, other):
    model = nn.Module()
    model.backbone = NETWORKS[one]()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    theirs = {
        f'backbone.{key}': torch.full_like(value, 0.5)
        for key, value in NETWORKS[other]().state_dict().items()
    }
    if one == other:
        model.load_state_dict(theirs)
        assert all((p == 0.5).all() for p in model.parameters())
        return
    with pytest.raises(UsageError, match='does not match .* use another checkpoint'):
        model.load_state_dict(theirs, strict=False)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize('network', NETWORKS)
def test_a_checkpoint_without_branches_fits(network):
    plain = NETWORKS[network](conv_cfg={'type': 'surge_mm.SurgeConv2d', 'compensator': None})
    conv_cfg = {'type': 'surge_mm.SurgeConv2d', 'compensator': {'eta': 0.1}}
    NETWORKS[network](conv_cfg=conv_cfg).load_state_dict(plain.state_dict())


def test_a_forgotten_prefix_is_named(tmp_path):
    state = {f'backbone.{k}': v for k, v in NETWORKS['vgg']().state_dict().items()}
    path = str(tmp_path / 'classifier.pth')
    save_checkpoint({'state_dict': state, 'meta': {}}, path)
    init_cfg = {'type': 'Pretrained', 'checkpoint': path}
    with pytest.raises(UsageError, match=r"add prefix='backbone\.' to init_cfg"):
        NETWORKS['vgg'](init_cfg=init_cfg).init_weights()
    model = NETWORKS['vgg'](init_cfg={**init_cfg, 'prefix': 'backbone.'})
    model.init_weights()
    assert torch.equal(model.features[0].weight, state['backbone.features.0.weight'])
