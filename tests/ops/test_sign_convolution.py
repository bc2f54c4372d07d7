"""Convolution of signs in bytes, against integer arithmetic."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from surge_mm.layers import SurgeConv2d
from surge_mm.ops import (
    Convolution,
    DualPath,
    DualPathSpec,
    LinearMap,
    ScaledSign,
    STESign,
    TwoValues,
    sign,
    sign_convolution,
)
from surge_mm.ops.byte_convolution import what_fails_in_onednn
from surge_mm.ops.sign_convolution import can_use_bytes, convolve_signs
from surge_mm.utils.cpu_features import has_byte_units

needs_bytes = pytest.mark.skipif(
    not has_byte_units() or bool(what_fails_in_onednn()), reason='the CPU multiplies no bytes'
)


@pytest.fixture(autouse=True)
def _in_bytes_at_any_size(monkeypatch):
    monkeypatch.setattr(sign_convolution, 'LEAST_OUTPUTS', 0)
    monkeypatch.setattr(sign_convolution, 'LEAST_PRODUCTS', 0)


def spec_of(map=None, **kwargs):
    """Return a layer of signs."""
    return DualPathSpec(map or Convolution(), STESign(), ScaledSign(), **kwargs)


def whole_sums(map, x, z, pad_value):
    """Return ``sign(z) * sign(x)`` by products of whole numbers in float64."""
    signs = [torch.where(t.signbit(), -1.0, 1.0).double() for t in (x, z)]
    padded = F.pad(signs[0], map.padding, value=pad_value)
    return F.conv2d(padded, signs[1], None, map.stride, 0, map.dilation, map.groups).round()


geometries = st.builds(
    Convolution,
    stride=st.tuples(*[st.integers(1, 3)] * 2),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
    dilation=st.tuples(*[st.integers(1, 2)] * 2),
    groups=st.sampled_from([1, 2, 4]),
)


@needs_bytes
@settings(max_examples=60, deadline=None)
@given(
    map=geometries,
    sizes=st.tuples(st.integers(1, 3), st.integers(2, 5), st.integers(5, 9), st.integers(5, 9)),
    filters=st.integers(1, 5),
    kernel=st.tuples(*[st.integers(1, 3)] * 2),
    pad_value=st.sampled_from([-1.0, 0.0, 1.0]),
    channels_last=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_output_is_the_whole_sum_times_alpha_in_the_format_of_the_input(
    map, sizes, filters, kernel, pad_value, channels_last, seed
):
    torch.manual_seed(seed)
    images, channels, height, width = sizes
    x = torch.randn(images, channels * map.groups, height, width)
    x[x.abs() < 0.1] *= 0  # zeros of both signs
    x[x > 2] = torch.nan
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    x = x.contiguous(memory_format=memory_format)
    z = torch.randn(filters * map.groups, channels, *kernel)
    alpha = torch.randn(len(z), 1, 1, 1)
    spec = spec_of(map, pad_value=pad_value)
    assert can_use_bytes(spec, x, z)
    found = convolve_signs(spec, x, TwoValues(z, alpha))
    expected = whole_sums(map, x, z, pad_value).float() * alpha.view(-1, 1, 1)
    assert found.is_contiguous(memory_format=memory_format)
    assert torch.equal(found, expected)


@needs_bytes
@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize('weight', ['ScaledSign', 'Sign', 'ReAct'])
@pytest.mark.parametrize('pad_value', [0, 1])
def test_a_layer_has_one_output_in_training_and_evaluation_and_its_usual_gradients(
    weight, pad_value, channels_last, monkeypatch
):
    torch.manual_seed(0)
    kinds = {'weight': {'type': weight}, 'activation': {'type': 'RSign'}}
    layer = SurgeConv2d(32, 24, 3, padding=1, pad_value=pad_value, **kinds)
    torch.nn.init.normal_(layer.activation_shift, std=0.3)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    layer = layer.to(memory_format=memory_format)
    x = torch.randn(3, 32, 11, 9).contiguous(memory_format=memory_format).requires_grad_()
    g = torch.randn(3, 24, 11, 9)

    def output_and_gradients():
        out = layer(x)
        return out, torch.autograd.grad(out, [x, *layer.parameters()], g)

    found, gradients = output_and_gradients()
    with monkeypatch.context() as patch:
        patch.setattr(sign_convolution, 'has_byte_units', lambda: False)
        usual, usual_gradients = output_and_gradients()
    torch.testing.assert_close(found, usual, rtol=1e-5, atol=1e-5)
    assert weight == 'Sign' or not torch.equal(found, usual)  # whose sums are rounded
    assert all(map(torch.equal, gradients, usual_gradients))
    with torch.no_grad():
        assert torch.equal(layer.eval()(x), found)


def test_what_bytes_do_not_hold_is_left_to_the_usual_convolution():
    x, w = torch.randn(1, 8, 6, 6), torch.randn(4, 8, 3, 3)
    others = {
        'float64': (spec_of(), x.double(), w.double()),
        'bfloat16': (spec_of(), x.bfloat16(), w.bfloat16()),
        'autocast': (spec_of(compute_dtype=torch.bfloat16), x, w),
        'two dtypes': (spec_of(), x, w.bfloat16()),
        'padding of no sign': (spec_of(pad_value=0.5), x, w),
        'linear': (spec_of(LinearMap()), x, w[..., 0, 0]),
        'other channels': (spec_of(), x[:, :4], w),
        'no batch': (spec_of(), x[0], w),
        'no output': (spec_of(), x[..., :2], w),
        'meta': (spec_of(), x.to('meta'), w.to('meta')),
    }
    assert can_use_bytes(spec_of(), x, w) == (has_byte_units() and not what_fails_in_onednn())
    assert not [case for case, arguments in others.items() if can_use_bytes(*arguments)]


@needs_bytes
def test_small_convolutions_are_left_to_the_usual_one(monkeypatch):
    monkeypatch.undo()
    w = torch.randn(64, 64, 3, 3)
    assert not can_use_bytes(spec_of(), torch.randn(1, 64, 14, 14), w)
    assert can_use_bytes(spec_of(), torch.randn(4, 64, 40, 40), w)


@needs_bytes
def test_a_rule_of_more_numbers_than_one_a_filter_keeps_the_usual_convolution():
    class PerChannel(ScaledSign):
        def two_values(self, w):
            return TwoValues(w, w.abs().mean((0, 2, 3), keepdim=True))

    torch.manual_seed(0)
    map, x, w = Convolution(), torch.randn(1, 8, 6, 6), torch.randn(8, 8, 3, 3)
    spec = DualPathSpec(map, STESign(), PerChannel())
    found = DualPath.apply(x, w, *[None] * 7, spec)
    torch.testing.assert_close(found, F.conv2d(sign(x), PerChannel()(w)))
