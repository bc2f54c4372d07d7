"""Layers with a scale of the user: the gradients of a scale per channel, and what is said of a wrong one."""

import copy

import pytest
import torch
import torch.nn.functional as F
from helpers.formula import surrogate_and_branch_gradients, surrogate_sign
from torch import nn

from surge_mm import SurgeConv2d, SurgeLinear
from surge_mm.ops import AdaptiveScale, GradientScale, Statistics


class PerChannel(GradientScale):
    """lam = eta ||g_b|| / (||g_a|| + eps) of each input channel."""

    def __init__(self, eta=0.1, eps=1e-8, channel=1):
        self.eta, self.eps, self.channel = eta, eps, channel

    def scale(self, g_b, g_a):
        others = [axis for axis in range(g_b.dim()) if axis != self.channel % g_b.dim()]
        norm_b, norm_a = (torch.linalg.vector_norm(g, dim=others, keepdim=True) for g in (g_b, g_a))
        return self.eta * norm_b / (norm_a + self.eps)


class PerImage(GradientScale):
    def scale(self, g_b, g_a):
        return g_b.flatten(1).norm(dim=1).view(-1, 1, 1, 1) / g_a.flatten(1).norm(dim=1).view(
            -1, 1, 1, 1
        )


class Unscaled(AdaptiveScale):
    """The scale of the paper, which the layer does not know to be one number."""


class Returns(GradientScale):
    def __init__(self, value):
        self.value = value

    def scale(self, g_b, g_a):
        return self.value


def lambda_of_channels(g_b, g_a, eta):
    """Lambda of the channels of axis 1, in loops."""
    lam = torch.zeros_like(g_a)
    for c in range(g_a.shape[1]):
        ratio = sum(v * v for v in g_b[:, c].flatten().tolist()) ** 0.5
        ratio /= sum(v * v for v in g_a[:, c].flatten().tolist()) ** 0.5
        lam[:, c] = eta * ratio
    return lam


def lambda_of_images(g_b, g_a, _):
    ratios = [
        float(b.square().sum().sqrt() / a.square().sum().sqrt())
        for b, a in zip(g_b, g_a, strict=True)
    ]
    return torch.stack([torch.full_like(a, r) for r, a in zip(ratios, g_a, strict=True)])


def expected_gradients(f, x, w_b, w_a, g, lam_of):
    """dL/dx, dL/dW_b and dL/dW_a by autograd, of ``f_b - down(f_a(lam x)) + f_a(lam x)``; and lambda."""
    names = ('STESign', 'ScaledSign')
    g_b, g_a, _ = surrogate_and_branch_gradients(f, x, w_b, w_a, g, *names)
    lam = lam_of(g_b, g_a)
    x, w_b, w_a = (t.detach().clone().requires_grad_() for t in (x, w_b, w_a))
    alpha = w_b.detach().abs().flatten(1).mean(1).view(-1, *[1] * (w_b.dim() - 1))
    q_w = (alpha * w_b.detach().sign()) + w_b - w_b.detach()
    branch = f(lam * x, w_a)
    out = f(surrogate_sign(x, 'STESign'), q_w) + branch - branch.detach()
    return torch.autograd.grad(out, (x, w_b, w_a), g), lam


SETTINGS = {'activation': {'type': 'STESign'}, 'bias': False}
CASES = {
    'conv': (
        lambda c: SurgeConv2d(4, 6, 3, stride=2, padding=1, groups=2, compensator=c, **SETTINGS),
        lambda x, w: F.conv2d(x, w, stride=2, padding=1, groups=2),
        (3, 4, 7, 5),
        {'type': PerChannel, 'eta': 0.3},
        lambda g_b, g_a: lambda_of_channels(g_b, g_a, 0.3),
    ),
    'linear': (
        lambda c: SurgeLinear(5, 3, compensator=c, **SETTINGS),
        F.linear,
        (6, 5),
        {'type': 'PerChannel', 'eta': 2.0},
        lambda g_b, g_a: lambda_of_channels(g_b, g_a, 2.0),
    ),
    'images': (
        lambda c: SurgeConv2d(3, 2, 3, compensator=c, **SETTINGS),
        F.conv2d,
        (4, 3, 5, 5),
        {'type': PerImage},
        lambda g_b, g_a: lambda_of_images(g_b, g_a, None),
    ),
}


@pytest.mark.parametrize('case', CASES)
def test_gradients_of_a_scale_with_several_elements_are_those_of_the_formula(case):
    make, f, shape, compensator, lam_of = CASES[case]
    torch.manual_seed(0)
    layer = make(compensator).double()
    with torch.no_grad():
        layer.aux_weight.mul_(1.7).add_(torch.randn_like(layer.weight), alpha=0.3)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    out = layer(x)
    g = torch.randn_like(out)
    out.backward(g)
    expected, lam = expected_gradients(f, x, layer.weight, layer.aux_weight, g, lam_of)
    got = (x.grad, layer.weight.grad, layer.aux_weight.grad)
    for grad, want in zip(got, expected, strict=True):
        torch.testing.assert_close(grad, want, rtol=1e-7, atol=1e-9)
    statistics = Statistics(*layer.ags_statistics.tolist())
    assert statistics.lam_min == pytest.approx(lam.min().item(), rel=1e-6)
    assert statistics.lam_max == pytest.approx(lam.max().item(), rel=1e-6)
    assert statistics.lam == pytest.approx(lam.mean().item(), rel=1e-6)
    assert statistics.lam_min < statistics.lam_max


def gradients(model, x):
    model.zero_grad()
    x = x.clone().requires_grad_()
    model(x).square().sum().backward()
    return {'x': x.grad, **{name: p.grad for name, p in model.named_parameters()}}


def pair(compensator, shared=True):
    """Two layers, or one that is used twice."""
    torch.manual_seed(0)
    layers = [SurgeConv2d(3, 3, 3, padding=1, compensator=compensator) for _ in range(2)]
    return nn.Sequential(layers[0], nn.PReLU(3), layers[0 if shared else 1])


@pytest.mark.parametrize('preserve_norm', [False, True])
def test_a_scale_of_one_number_has_the_gradients_of_the_built_in_one(preserve_norm):
    x = torch.randn(2, 3, 6, 6)
    eta = {'eta': 0.3, 'preserve_norm': preserve_norm}
    expected = gradients(pair(eta), x)
    found = gradients(pair({'type': Unscaled, **eta}), x)
    for name, grad in found.items():
        torch.testing.assert_close(grad, expected[name], rtol=1e-5, atol=1e-6)


def test_the_type_of_a_built_in_scale_is_what_eta_and_scale_stand_for():
    for short, long in (
        ({'eta': 0.2}, {'type': 'AdaptiveScale', 'eta': 0.2}),
        ({'scale': 0.2}, {'type': 'surge_mm.FixedScale', 'value': 0.2}),
    ):
        layers = [SurgeConv2d(2, 2, 3, compensator=setting) for setting in (short, long)]
        assert layers[0].scale == layers[1].scale


@pytest.mark.parametrize('form', [{}, {'dtype': 'bfloat16'}], ids=str)
def test_compiled_layers_that_are_reused_have_the_gradients_of_eager_ones(form):
    torch._dynamo.reset()
    model = pair({'type': PerChannel, 'eta': 0.3, **form})
    compiled = torch.compile(model, backend='aot_eager', dynamic=True, fullgraph=True)
    for size in (6, 7):
        x = torch.randn(2, 3, size, size + 1)
        expected = gradients(model, x)
        statistics = model[0].ags_statistics.clone()
        for name, grad in gradients(compiled, x).items():
            torch.testing.assert_close(
                grad, expected[name.removeprefix('_orig_mod.')], rtol=1e-4, atol=1e-5
            )
        torch.testing.assert_close(model[0].ags_statistics, statistics)


def test_a_branch_in_bfloat16_has_a_scale_in_float32():
    seen = []

    class Seen(PerChannel):
        def scale(self, g_b, g_a):
            seen.append((g_b.dtype, g_a.dtype))
            return super().scale(g_b, g_a)

    x = torch.randn(2, 3, 6, 6)
    exact = gradients(pair({'type': PerChannel, 'eta': 0.3}), x)
    rough = gradients(pair({'type': Seen, 'eta': 0.3, 'dtype': 'bfloat16'}), x)
    for name, grad in rough.items():
        assert grad.dtype == torch.float32
        torch.testing.assert_close(
            grad, exact[name], rtol=0.05, atol=0.05 * exact[name].abs().max()
        )
    assert not torch.equal(rough['x'], exact['x'])
    with torch.autocast('cpu', torch.bfloat16):
        gradients(pair({'type': Seen}).bfloat16(), x.bfloat16())
    assert set(seen) == {(torch.float32, torch.float32)} and len(seen) == 4


def test_a_mean_over_calls_is_recorded_in_passes_that_observe():
    model = pair({'type': PerChannel})
    model[0].observe = True
    gradients(model, torch.randn(2, 3, 6, 6))
    statistics = Statistics(*model[0].ags_statistics.tolist())
    assert statistics.calls == 2
    assert statistics.lam_min < statistics.lam < statistics.lam_max and statistics.cos != 0


def test_warm_up_multiplies_a_scale_of_ones_own():
    x = torch.randn(2, 3, 6, 6)
    layer = SurgeConv2d(3, 3, 3, compensator={'type': PerChannel, 'eta': 0.2})
    layer.ags_warmup.fill_(0.5)
    other = copy.deepcopy(layer)
    other.ags_warmup.fill_(1.0)
    other.scale.eta = 0.1
    torch.testing.assert_close(gradients(layer, x), gradients(other, x))


@pytest.mark.parametrize(
    'value', [float('nan'), torch.tensor([1.0, float('inf'), 2.0]).view(1, 3, 1, 1)], ids=str
)
def test_a_lambda_that_is_not_finite_leaves_the_branch_out_and_is_counted(value):
    x = torch.randn(2, 3, 6, 6)
    torch.manual_seed(0)
    layer = SurgeConv2d(3, 3, 3, compensator={'type': Returns, 'value': value})
    found = gradients(layer, x)
    plain = SurgeConv2d(3, 3, 3, compensator=None)
    plain.load_state_dict(layer.state_dict())
    expected = gradients(plain, x)
    for name in ('x', 'weight', 'bias'):
        assert torch.equal(found[name], expected[name])
    assert not found['aux_weight'].any()
    statistics = Statistics(*layer.ags_statistics.tolist())
    assert statistics.non_finite == 1 and statistics.lam == 0


@pytest.mark.parametrize(
    'value, got',
    [
        (torch.ones(3), r'a tensor of the shape \(3,\)'),
        (torch.ones(6), r'a tensor of the shape \(6,\)'),  # the width, or as many channels
        (torch.ones(6, 6), r'a tensor of the shape \(6, 6\)'),
        (torch.ones(1, 2, 1, 1), r'a tensor of the shape \(1, 2, 1, 1\)'),
        (torch.ones(1, 1, 1, 1, 1), r'a tensor of the shape \(1, 1, 1, 1, 1\)'),
        (None, 'NoneType'),
    ],
    ids=str,
)
def test_a_lambda_of_a_wrong_shape_is_named(value, got):
    layer = SurgeConv2d(3, 3, 3, compensator={'type': Returns, 'value': value})
    message = (
        r'Returns.scale must return a number, or a tensor that broadcasts to the shape of the gradients, '
        rf'\(2, 3, 6, 6\), such as \(1, 3, 1, 1\) for one value per input channel; got {got}'
    )
    with pytest.raises(ValueError, match=message):
        gradients(layer, torch.randn(2, 3, 6, 6))


class InPlace(GradientScale):
    def __init__(self, changed):
        self.changed = changed

    def scale(self, g_b, g_a):
        (g_b, g_a)[self.changed].mul_(2)
        return 0.1


@pytest.mark.parametrize('changed', [0, 1], ids=['g_b', 'g_a'])
def test_a_scale_that_changes_a_gradient_in_place_is_an_error(changed):
    layer = SurgeConv2d(3, 3, 3, compensator={'type': InPlace, 'changed': changed})
    with pytest.raises(ValueError, match='InPlace.scale changed g_b or g_a in place'):
        gradients(layer, torch.randn(2, 3, 6, 6))


def test_a_negative_lambda_subtracts_the_branch():
    layer, opposite = (
        SurgeConv2d(3, 3, 3, compensator={'type': Returns, 'value': value}) for value in (-0.5, 0.5)
    )
    opposite.load_state_dict(layer.state_dict())
    x = torch.randn(2, 3, 6, 6)
    found, mirrored = gradients(layer, x), gradients(opposite, x)
    torch.testing.assert_close(found['aux_weight'], -mirrored['aux_weight'])
    plain = SurgeConv2d(3, 3, 3, compensator=None)
    plain.load_state_dict(layer.state_dict(), strict=False)
    middle = (found['x'] + mirrored['x']) / 2
    torch.testing.assert_close(middle, gradients(plain, x)['x'], rtol=1e-4, atol=1e-5)
    assert not torch.equal(found['x'], mirrored['x'])


def test_an_empty_batch_gives_zero_gradients():
    layer = SurgeConv2d(3, 3, 3, compensator={'type': PerImage})
    grads = gradients(layer, torch.randn(0, 3, 6, 6))
    assert (
        not grads['aux_weight'].any() and Statistics(*layer.ags_statistics.tolist()).non_finite == 0
    )


def test_one_gradient_for_each_image_is_that_of_a_batch_of_one():
    model = nn.Sequential(SurgeConv2d(3, 4, 3, padding=1, compensator={'type': PerChannel}))
    images = torch.randn(3, 3, 6, 6)

    def loss(parameters, image):
        return torch.func.functional_call(model, parameters, (image[None],)).square().sum()

    found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(
        dict(model.named_parameters()), images
    )
    for i, image in enumerate(images):
        expected = gradients(model, image[None])
        for name, grad in found.items():
            torch.testing.assert_close(grad[i], expected[name], rtol=1e-4, atol=1e-5)
