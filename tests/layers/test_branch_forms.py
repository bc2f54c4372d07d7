"""Forms of the branch: tied and frozen."""

import torch
import torch.nn.functional as F
from helpers.formula import dual_path, surrogate_and_branch_gradients
from torch import nn

from surge_mm.layers import SurgeConv2d, SurgeLinear, compensated_layers


def test_a_tied_branch_has_the_gradient_of_the_latent_weights_and_no_weights_of_its_own():
    torch.manual_seed(0)
    options = {'padding': 1, 'stride': 2, 'dtype': torch.float64}
    conv = SurgeConv2d(3, 4, 3, compensator={'scale': 0.3, 'tied': True}, **options)
    x = torch.randn(5, 3, 9, 9, dtype=torch.float64)
    leaves = [t.detach().clone().requires_grad_() for t in (x, conv.weight, conv.weight, conv.bias)]
    expected = dual_path(
        lambda x, w: F.conv2d(x, w, None, 2, 1), *leaves[:3], 0.3, 'ApproxSign', 'ScaledSign'
    ) + leaves[3].view(-1, 1, 1)
    g = torch.randn_like(expected)
    expected.backward(g)
    mine = x.clone().requires_grad_()
    conv(mine).backward(g)
    for got, leaf in zip((mine, conv.weight), leaves, strict=False):
        torch.testing.assert_close(got.grad, leaf.grad, rtol=1e-10, atol=1e-10)
    assert [name for name, _ in conv.named_parameters()] == ['weight', 'bias']
    assert list(conv.state_dict()) == ['weight', 'bias']
    assert [layer for _, layer in compensated_layers(nn.Sequential(conv))] == [conv]


def test_a_frozen_branch_has_the_gradient_of_its_random_weights_which_never_change():
    torch.manual_seed(0)
    options = {'padding': 1, 'stride': 2, 'dtype': torch.float64}
    conv = SurgeConv2d(3, 4, 3, compensator={'eta': 0.3, 'frozen': True}, **options)
    drawn = conv.aux_weight.detach().clone()
    assert not torch.equal(drawn, conv.weight)
    x, g = torch.randn(5, 3, 9, 9, dtype=torch.float64), torch.randn(5, 4, 5, 5).double()
    g_b, g_a, _ = surrogate_and_branch_gradients(
        lambda x, w: F.conv2d(x, w, None, 2, 1),
        x,
        conv.weight,
        drawn,
        g,
        'ApproxSign',
        'ScaledSign',
    )
    x.requires_grad_()
    conv.requires_grad_(True)  # as code that unfreezes a whole model does
    conv.train()(x).backward(g)
    expected = g_b + 0.3 * g_b.norm() / (g_a.norm() + 1e-8) * g_a
    torch.testing.assert_close(x.grad, expected, rtol=1e-10, atol=1e-10)
    torch.optim.SGD(conv.parameters(), lr=0.1, weight_decay=0.1).step()
    assert torch.equal(conv.aux_weight, drawn)
    restored = SurgeConv2d(3, 4, 3, compensator={'eta': 0.3, 'frozen': True}, **options)
    restored.load_state_dict(conv.state_dict())
    assert torch.equal(restored.train().aux_weight, drawn)


def test_a_frozen_branch_behind_a_checkpoint_without_one_is_drawn_from_the_weights():
    compensator = {'eta': 0.1, 'frozen': True}
    plain = SurgeConv2d(3, 4, 3, compensator=None)
    drawn = []
    for seed in (1, 2):  # of ranks that differ
        torch.manual_seed(seed)
        conv = SurgeConv2d(3, 4, 3, compensator=compensator)
        conv.load_state_dict(plain.state_dict())
        assert not conv.aux_weight.requires_grad
        drawn.append(conv.aux_weight)
    assert torch.equal(*drawn)


def test_one_process_is_the_only_rank_of_a_synchronized_scale():
    x, found = torch.randn(4, 6), []
    for sync in (False, True):
        torch.manual_seed(0)
        layer = SurgeLinear(6, 3, compensator={'type': 'AdaptiveScale', 'eta': 0.1, 'sync': sync})
        layer(x).square().sum().backward()
        found.append(layer.aux_weight.grad)
    assert torch.equal(*found) and found[0].any()
