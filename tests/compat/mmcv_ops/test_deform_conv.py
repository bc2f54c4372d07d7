from math import floor

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmcv.ops import (
    DeformConv2dPack,
    ModulatedDeformConv2dPack,
    deform_conv2d,
    modulated_deform_conv2d,
)
from mmdet.models.necks import DyHead

# stride, padding, dilation, groups, deformable groups
GEOMETRIES = [
    (1, 1, 1, 1, 1),
    ((2, 1), (1, 0), 1, 2, 1),
    (1, (2, 1), (2, 1), 1, 2),
    (2, 2, (1, 2), 2, 2),
]


def random_case(geometry, batch=2, size=(6, 7)):
    """Input (batch, 4, *size), offsets, mask, weight (6, ., 3, 2) and bias, in float64."""
    stride, padding, dilation, groups, deform_groups = geometry
    x = torch.randn(batch, 4, *size, dtype=torch.float64)
    w = torch.randn(6, 4 // groups, 3, 2, dtype=torch.float64)
    h_out, w_out = F.conv2d(x, w, None, stride, padding, dilation, groups).shape[2:]
    offset = torch.randn(batch, 2 * deform_groups * 6, h_out, w_out, dtype=torch.float64)
    mask = torch.rand(batch, deform_groups * 6, h_out, w_out, dtype=torch.float64)
    return x, offset, mask, w, torch.randn(6, dtype=torch.float64)


def plain_bilinear(plane, y, x):
    """Interpolation between pixels, with zeros outside of the plane."""
    height, width = plane.shape
    return sum(
        plane[j, i] * (1 - abs(y - j)) * (1 - abs(x - i))
        for j in (floor(y), floor(y) + 1)
        for i in (floor(x), floor(x) + 1)
        if 0 <= j < height and 0 <= i < width
    )


def plain_deform_conv(x, offset, mask, w, bias, geometry):
    """y(p) = bias + sum_k w_k m_k(p) x(p + k + offset_k(p))."""
    x, offset, mask, w = (t.numpy() for t in (x, offset, mask, w))
    (sh, sw), (ph, pw), (dh, dw) = (g if isinstance(g, tuple) else (g, g) for g in geometry[:3])
    groups, deform_groups = geometry[3:]
    n, c_in = x.shape[:2]
    c_out, c_group, kh, kw = w.shape
    y = np.zeros((n, c_out, *offset.shape[2:])) + bias.numpy()[:, None, None]
    for b, o, i, j in np.ndindex(*y.shape):
        for c, a, e in np.ndindex(c_group, kh, kw):
            channel = o // (c_out // groups) * c_group + c
            k = channel // (c_in // deform_groups) * kh * kw + a * kw + e
            row = i * sh - ph + a * dh + offset[b, 2 * k, i, j]
            column = j * sw - pw + e * dw + offset[b, 2 * k + 1, i, j]
            sample = plain_bilinear(x[b, channel], row, column)
            y[b, o, i, j] += w[o, c, a, e] * mask[b, k, i, j] * sample
    return torch.from_numpy(y)


def test_deform_conv_equals_compiled_mmcv(reference, sine_like):
    x, offset, w = (
        reference[f'dcn_{name}'].clone().requires_grad_() for name in ('x', 'offset', 'w')
    )
    y = deform_conv2d(x, offset, w, 1, 1, 1, 1, 2)
    y.backward(sine_like(y))
    assert torch.equal(y, reference['dcn_y'])
    for leaf, name in ((x, 'gx'), (offset, 'goffset'), (w, 'gw')):
        assert torch.allclose(leaf.grad, reference[f'dcn_{name}'], rtol=1e-5, atol=1e-5), name


def test_modulated_deform_conv_equals_compiled_mmcv(reference, sine_like):
    x, offset, mask, w = (
        reference[f'mdcn_{name}'].clone().requires_grad_() for name in ('x', 'offset', 'mask', 'w')
    )
    y = modulated_deform_conv2d(x, offset, mask, w, None, 1, 1, 1, 1, 2)
    y.backward(sine_like(y))
    assert torch.equal(y, reference['mdcn_y'])
    for leaf, name in ((x, 'gx'), (offset, 'goffset'), (mask, 'gmask'), (w, 'gw')):
        assert torch.allclose(leaf.grad, reference[f'mdcn_{name}'], rtol=1e-5, atol=1e-5), name


@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_deform_conv_follows_the_formula(geometry):
    x, offset, mask, w, bias = random_case(geometry)
    y = deform_conv2d(x, offset, w, *geometry)
    ones, zero = torch.ones_like(mask), torch.zeros_like(bias)
    assert torch.allclose(y, plain_deform_conv(x, offset, ones, w, zero, geometry))


@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_modulated_deform_conv_follows_the_formula(geometry):
    x, offset, mask, w, bias = random_case(geometry)
    y = modulated_deform_conv2d(x, offset, mask, w, bias, *geometry)
    assert torch.allclose(y, plain_deform_conv(x, offset, mask, w, bias, geometry))


@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_without_offsets_it_is_a_convolution(geometry):
    x, offset, mask, w, bias = random_case(geometry)
    offset, mask = torch.zeros_like(offset), torch.ones_like(mask)
    expected = F.conv2d(x, w, None, *geometry[:4])
    assert torch.allclose(deform_conv2d(x, offset, w, *geometry), expected)
    y = modulated_deform_conv2d(x, offset, mask, w, bias, *geometry)
    assert torch.allclose(y, expected + bias[:, None, None])


@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_gradients_are_the_derivatives(geometry):
    case = random_case(geometry, batch=1, size=(4, 4))
    x, offset, mask, w, bias = (t.requires_grad_() for t in case)
    assert torch.autograd.gradcheck(
        lambda x, offset, w: deform_conv2d(x, offset, w, *geometry), (x, offset, w)
    )
    assert torch.autograd.gradcheck(
        lambda *case: modulated_deform_conv2d(*case, *geometry), (x, offset, mask, w, bias)
    )


def test_a_batch_of_several_im2col_steps_is_the_sum_of_its_samples():
    geometry = GEOMETRIES[0]
    x, offset, _, w, _ = random_case(geometry, batch=4)
    leaves = [t.requires_grad_() for t in (x, offset, w)]
    y = deform_conv2d(*leaves, *geometry, False, 2)
    grads = torch.autograd.grad(y.sin().sum(), leaves)
    single = [deform_conv2d(x[i : i + 1], offset[i : i + 1], w, *geometry) for i in range(4)]
    expected = torch.autograd.grad(torch.cat(single).sin().sum(), leaves)
    assert torch.allclose(y, torch.cat(single))
    assert all(torch.allclose(a, b) for a, b in zip(grads, expected, strict=True))


def test_half_precision_is_computed():
    x, offset, mask, w, bias = random_case(GEOMETRIES[0])
    exact = modulated_deform_conv2d(x, offset, mask, w, bias, 1, 1)
    leaves = [t.to(torch.bfloat16).requires_grad_() for t in (x, offset, mask, w, bias)]
    y = modulated_deform_conv2d(*leaves, 1, 1)
    y.sum().backward()
    assert y.dtype == torch.bfloat16
    assert (y - exact).norm() < 0.05 * exact.norm()
    assert all(leaf.grad.dtype == torch.bfloat16 for leaf in leaves)


def first_layer(kind):
    """Return a 2x2 layer of ones with padding, whose offsets start at 0, after a backward pass of its sum."""
    layer = kind(1, 1, kernel_size=(2, 2), stride=1, padding=1, deform_groups=1, bias=False)
    layer.weight.data.fill_(1)
    layer(torch.tensor([[[[1.0, 2, 3]] * 3]])).sum().backward()
    return layer.conv_offset


def test_offsets_of_zero_have_the_gradients_that_mmcv_tests():
    """At the coordinate -1 mmcv takes the derivative 0. The numbers are those of its ``test_mdconv``."""
    conv_offset = first_layer(ModulatedDeformConv2dPack)
    weight = [
        [-7, -4, 0, 0],
        [-9, 7.5, -6, 5],
        [-4, -7, 0, 0],
        [-7.5, -9, -5, -6],
        [-7, -4, -7, -4],
        [-6, 5, -9, 7.5],
        [-4, -7, -4, -7],
        [-5, -6, -7.5, -9],
    ]
    expected = torch.tensor(weight).view(8, 1, 2, 2)
    torch.testing.assert_close(conv_offset.weight.grad[:8], expected)
    bias = torch.tensor([-3, -1.5, -3, -1.5, -3, -1.5, -3, -1.5])
    torch.testing.assert_close(conv_offset.bias.grad[:8], bias)


def test_the_first_version_takes_the_same_derivative():
    """Its mask is 1; that of the second version starts at sigmoid(0) = 1/2."""
    torch.testing.assert_close(
        first_layer(DeformConv2dPack).weight.grad,
        2 * first_layer(ModulatedDeformConv2dPack).weight.grad[:8],
    )


@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_derivatives_at_the_coordinate_before_the_first_pixel_are_those_of_the_zeros(geometry):
    """A little before -1, the sample is 0 whatever the offset."""
    x, offset, mask, w, bias = random_case(geometry)
    offset = offset.round().requires_grad_()  # many lead to -1
    modulated_deform_conv2d(x, offset, mask, w, bias, *geometry).sum().backward()
    (stride, padding, dilation), shape = geometry[:3], offset.shape
    pairs = [g if isinstance(g, tuple) else (g, g) for g in (stride, padding, dilation)]
    found = 0
    for b, c, i, j in np.ndindex(*shape):
        k, axis = c // 2 % 6, c % 2
        step, tap = ((i, k // 2), (j, k % 2))[axis]
        (s, p, d) = (pair[axis] for pair in pairs)
        if step * s - p + tap * d + offset[b, c, i, j].item() == -1:
            found += 1
            assert offset.grad[b, c, i, j] == 0
    assert found > 5
    others = offset.grad.count_nonzero()
    assert others > 0.2 * offset.numel()


@pytest.mark.parametrize('geometry', GEOMETRIES)
def test_offsets_larger_than_the_output_are_read_as_a_prefix_of_each_sample(geometry):
    x, offset, mask, w, bias = random_case(geometry)
    height, width = offset.shape[2:]
    large_offset, large_mask = (
        torch.randn(len(t), t.shape[1], height + 2, width + 1, dtype=t.dtype)
        for t in (offset, mask)
    )
    for large, t in ((large_offset, offset), (large_mask, mask)):
        for sample, of_output in zip(large, t, strict=True):
            sample.view(-1)[: of_output.numel()] = of_output.flatten()
    leaves = [t.requires_grad_() for t in (x, large_offset, large_mask, w, bias)]
    y = modulated_deform_conv2d(*leaves, *geometry)
    assert torch.allclose(
        y, plain_deform_conv(*(t.detach() for t in (x, offset, mask, w, bias)), geometry)
    )
    small = [t.detach().requires_grad_() for t in (x, offset, mask, w, bias)]
    expected = torch.autograd.grad(modulated_deform_conv2d(*small, *geometry).sin().sum(), small)
    got = torch.autograd.grad(y.sin().sum(), leaves)
    for mine, right in zip(got, expected, strict=True):
        if mine.shape == right.shape:
            assert torch.allclose(mine, right)
        else:
            count = right[0].numel()
            assert torch.equal(mine.flatten(1)[:, :count], right.flatten(1))
            assert not mine.flatten(1)[:, count:].any()


def test_offsets_smaller_than_the_output_are_an_error():
    x, offset, mask, w, bias = random_case(GEOMETRIES[0])
    with pytest.raises(RuntimeError, match='offset output dims'):
        modulated_deform_conv2d(x, offset[..., 1:], mask, w, bias, *GEOMETRIES[0])


def test_dyhead_trains():
    """It gives the offsets of a level to the smaller output of the next one."""
    torch.manual_seed(0)
    neck = DyHead(16, 16, num_blocks=2)
    out = neck([torch.randn(2, 16, *size) for size in ((20, 16), (10, 8), (5, 4))])
    sum(o.square().sum() for o in out).backward()
    assert [tuple(o.shape[2:]) for o in out] == [(20, 16), (10, 8), (5, 4)]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in neck.parameters())
