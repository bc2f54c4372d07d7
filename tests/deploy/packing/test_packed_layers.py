"""Packed layers against those that they are made of, which tests/ops/test_inference.py holds against the formula."""

import copy
import random

import pytest
import torch
import torch.nn.functional as F

from surge_mm import SurgeConv2d, SurgeLinear
from surge_mm.deploy import PackedConv2d, PackedLinear
from surge_mm.deploy.cpu import backend, plan
from surge_mm.deploy.packing.signs import LayerOutput
from surge_mm.ops import ActivationBinarizer
from surge_mm.utils.errors import UsageError

WEIGHTS = ['Sign', 'ScaledSign', 'Libra', 'ReCU', 'AdaBin']


def draw_conv(seed):
    """Build a convolution of random settings with learned values that are not the initial ones, and an input."""
    draw = random.Random(seed)
    torch.manual_seed(seed)
    groups = draw.choice([1, 1, 1, 2, 3])
    channels = groups * draw.choice([1, 3, 16, 20, 64, 70, 130])
    filters = groups * draw.choice([1, 5, 16, 24, 32, 70])
    kernel = draw.choice([2, 3, (3, 1), 5])
    padding = draw.choice([0, 1, 2, (1, 2), 'same'])
    settings = {
        'kernel_size': kernel,
        'stride': 1 if padding == 'same' else draw.choice([1, 2, (2, 1)]),
        'padding': padding,
        'dilation': draw.choice([1, 1, 2, (1, 2)]),
        'groups': groups,
        'bias': draw.random() < 0.5,
        'pad_value': draw.choice([0, 1, -1]),
        'activation': {'type': draw.choice(['ApproxSign', 'RSign'])},
        'weight': {'type': draw.choice(WEIGHTS)},
    }
    if padding != 'same' and draw.random() < 0.2:
        settings.update(pad_value=0, padding_mode=draw.choice(['reflect', 'replicate', 'circular']))
    layer = SurgeConv2d(channels, filters, **settings).eval()
    with torch.no_grad():
        for learned in (layer.activation_shift, layer.weight_gain):
            if learned is not None:
                learned.normal_()
    x = torch.randn(draw.choice([1, 2]), channels, draw.randint(9, 14), draw.randint(9, 14))
    if draw.random() < 0.5:
        x = x.to(memory_format=torch.channels_last)
    return layer, x


@torch.no_grad()
@pytest.mark.parametrize('count', [1, 2])
@pytest.mark.parametrize('seed', range(60))
def test_a_packed_convolution_gives_the_output_to_the_bit(seed, count, monkeypatch):
    monkeypatch.setattr(torch, 'get_num_threads', lambda: count)
    monkeypatch.setattr(plan, 'WORTH_THREADS', 0)
    layer, x = draw_conv(seed)
    out = PackedConv2d(layer)(x)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(out, layer(x))


@torch.no_grad()
@pytest.mark.parametrize('seed', range(60))
def test_plain_pytorch_computes_the_same(seed, monkeypatch):
    layer, x = draw_conv(seed)
    monkeypatch.setattr(backend, 'kernels', lambda: None)
    assert torch.equal(PackedConv2d(layer)(x), layer(x))


@torch.no_grad()
@pytest.mark.parametrize('weight', WEIGHTS)
@pytest.mark.parametrize('shape', [(100,), (1, 100), (7, 100), (2, 50, 100), (0, 100)])
def test_a_packed_linear_layer_gives_the_output_to_the_bit(weight, shape):
    layer = SurgeLinear(100, 50, weight={'type': weight}, activation={'type': 'RSign'}).eval()
    layer.activation_shift.normal_()
    x = torch.randn(shape)
    assert torch.equal(PackedLinear(layer)(x), layer(x))


@torch.no_grad()
@pytest.mark.parametrize('pad_value', [0, 1, -1])
@pytest.mark.parametrize('channels', [16, 96, 64, 40])
def test_a_layer_reads_the_signs_that_the_one_before_made(channels, pad_value):
    first = SurgeConv2d(32, channels, 3, padding=1).eval()
    second = SurgeConv2d(
        channels, 16, 3, padding=1, pad_value=pad_value, activation={'type': 'RSign'}
    ).eval()
    second.activation_shift.normal_()
    a, b = PackedConv2d(first), PackedConv2d(second)
    x = torch.randn(2, 32, 7, 9)
    out, signs = a.run(x, following=b)
    assert signs is not None
    assert torch.equal(out, first(x))
    assert torch.equal(b.run(LayerOutput(out, signs).input()).values, second(first(x)))
    inner, signs = a.run(x, following=b, values=False)
    assert inner is None
    assert torch.equal(b.run(signs)[0], second(first(x)))


@torch.no_grad()
@pytest.mark.parametrize(('channels', 'by_first'), [(32, True), (24, False)])
def test_groups_make_signs_if_their_channels_begin_at_a_byte(channels, by_first):
    first = SurgeConv2d(32, channels, 3, padding=1, groups=2).eval()
    second = SurgeConv2d(channels, 16, 3, padding=1).eval()
    a, b = PackedConv2d(first), PackedConv2d(second)
    x = torch.randn(2, 32, 7, 9)
    out, signs = a.run(x, following=b, values=False)
    assert (signs is not None) == by_first
    assert torch.equal(b.run(LayerOutput(out, signs).input()).values, second(first(x)))


@torch.no_grad()
def test_negative_zero_has_the_sign_of_its_bit():
    layer = SurgeConv2d(3, 2, 1, bias=False).eval()
    x = torch.tensor([0.0, -0.0]).reshape(1, 1, 1, 2).repeat(1, 3, 1, 1)
    out = PackedConv2d(layer)(x)
    assert torch.equal(out, layer(x))
    assert torch.equal(out[..., 0], -out[..., 1])


@torch.no_grad()
def test_a_packed_layer_computes_in_other_precisions_too():
    layer, x = SurgeConv2d(20, 5, 3, padding=1).double().eval(), torch.randn(1, 20, 6, 6).double()
    packed = PackedConv2d(layer.float()).double()
    torch.testing.assert_close(packed(x), layer.double()(x))
    with torch.autocast('cpu', torch.bfloat16):
        assert packed.float()(x.bfloat16()).isfinite().all()


@torch.no_grad()
def test_sums_of_a_layer_that_first_runs_under_autocast_are_exact():
    layer = SurgeConv2d(512, 16, 3, padding=1, bias=False, weight={'type': 'Sign'}).eval()
    layer.weight.sub_(layer.weight.std())  # sums of a tap's signs beyond the 256 of bfloat16
    packed, x = PackedConv2d(layer), torch.randn(1, 512, 6, 6)
    with torch.autocast('cpu', torch.bfloat16):
        packed(x)
    assert torch.equal(packed(x), layer(x))


@torch.no_grad()
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_a_layer_of_another_precision_takes_float32(dtype):
    layer, x = SurgeConv2d(16, 16, 3, activation={'type': 'RSign'}).eval(), torch.randn(1, 16, 6, 6)
    layer.activation_shift.normal_()
    packed = PackedConv2d(layer).to(dtype)
    layer.activation_shift.copy_(layer.activation_shift.to(dtype))
    torch.testing.assert_close(packed(x), layer(x), rtol=0.01, atol=0.01)


@torch.no_grad()
def test_a_layer_computes_in_float32_whatever_the_default_is():
    layer, x = SurgeConv2d(16, 16, 3).eval(), torch.randn(1, 16, 6, 6)
    expected, packed = layer(x), PackedConv2d(layer)
    torch.set_default_dtype(torch.float64)
    try:
        out = packed(x)
    finally:
        torch.set_default_dtype(torch.float32)
    assert out.dtype == torch.float32
    assert torch.equal(out, expected)


@torch.no_grad()
def test_no_signs_are_made_for_a_layer_of_other_channels():
    one, other = (PackedConv2d(SurgeConv2d(16, n, 3)) for n in (48, 16))
    x = torch.randn(1, 16, 6, 6)
    out, signs = one.run(x, following=other, values=False)
    assert signs is None
    with pytest.raises(UsageError, match='must have 16 channels'):
        other.run(out)


@torch.no_grad()
def test_a_loaded_state_is_used_from_then_on():
    torch.manual_seed(1)
    one, other = (SurgeConv2d(16, 16, 3, activation={'type': 'RSign'}).eval() for _ in range(2))
    other.activation_shift.normal_()
    before, packed = PackedConv2d(SurgeConv2d(16, 16, 1).eval()), PackedConv2d(one)
    x = torch.randn(1, 16, 6, 6)
    packed.run(before.run(x, following=packed)[1])
    packed.load_state_dict(PackedConv2d(other).state_dict())
    assert torch.equal(packed(x), other(x))
    out, signs = before.run(x, following=packed)
    assert torch.equal(packed.run(signs)[0], other(out))


@torch.no_grad()
def test_a_copy_computes_the_same():
    layer, x = draw_conv(3)
    packed = PackedConv2d(layer)
    out = packed(x)
    assert torch.equal(copy.deepcopy(packed)(x), out)


def test_a_gradient_is_refused_and_not_dropped():
    packed = PackedConv2d(SurgeConv2d(16, 16, 3))
    with pytest.raises(UsageError, match='has no gradient: packed models are for inference'):
        packed(torch.randn(1, 16, 6, 6, requires_grad=True))


@pytest.mark.parametrize('shape', [(1, 8, 6, 6), (1, 16, 2, 6)])
def test_an_input_of_the_wrong_shape_is_named(shape):
    packed = PackedConv2d(SurgeConv2d(16, 16, 3))
    with (
        torch.no_grad(),
        pytest.raises(UsageError, match=rf'{shape[1]}, {shape[2]}, 6\) must have 16'),
    ):
        packed(torch.randn(shape))


@torch.no_grad()
@pytest.mark.parametrize('shape', [(16, 6), (1, 16, 6, 6, 6)])
def test_an_input_with_another_number_of_axes_is_an_error_that_names_the_shape(shape):
    with pytest.raises(UsageError, match=rf'has {len(shape)} axes.*4: \(N, 16, height, width\)'):
        PackedConv2d(SurgeConv2d(16, 16, 3))(torch.randn(shape))


@torch.no_grad()
@pytest.mark.parametrize('shortcut', [torch.zeros(1, 16, 4, 3), torch.zeros(1, 16, 4, 4).double()])
def test_a_shortcut_of_the_wrong_shape_or_dtype_is_refused(shortcut):
    packed = PackedConv2d(SurgeConv2d(16, 16, 3))
    with pytest.raises(UsageError, match='the shortcut .* must be as the output'):
        packed.run(torch.randn(1, 16, 6, 6), shortcut)


class Halves(ActivationBinarizer):
    """An activation that is not the sign; known in the test below alone."""

    def __call__(self, x):
        return (x > 0).to(x.dtype)

    def derivative(self, x):
        return torch.ones_like(x)


HALVES = ActivationBinarizer.known.pop('Halves')


@pytest.mark.parametrize(
    ('settings', 'why'),
    [
        ({'weight': {'type': 'Real'}}, 'not of two values'),
        ({'activation': {'type': 'Halves'}}, 'is not the sign'),
        ({'dtype': torch.float64}, 'computes in float32'),
    ],
)
def test_the_error_of_a_layer_that_cannot_be_packed_has_the_reason(settings, why, monkeypatch):
    monkeypatch.setitem(ActivationBinarizer.known, 'Halves', HALVES)
    with pytest.raises(UsageError, match=why):
        PackedConv2d(SurgeConv2d(4, 4, 3, **settings))


@torch.no_grad()
def test_an_independent_convolution_of_signs_gives_the_sums():
    layer = SurgeConv2d(70, 24, 3, padding=1, bias=False, weight={'type': 'Sign'}).eval()
    x = torch.randn(1, 70, 8, 8, dtype=torch.float64)
    expected = F.conv2d(x.sign(), layer.weight.double().sign(), padding=1)
    assert torch.equal(PackedConv2d(layer)(x.float()).double(), expected)
