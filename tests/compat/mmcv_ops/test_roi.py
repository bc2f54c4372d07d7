from math import ceil, floor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmcv.ops import roi_align, roi_pool

SEEDS = st.integers(0, 2**32 - 1)


def random_case(seed, dtype=torch.float64):
    """Features (2, 3, 7, 9) and four RoIs, some of which extend over the border."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 3, 7, 9, generator=generator, dtype=dtype)
    image = torch.randint(2, (4, 1), generator=generator).to(dtype)
    corner = torch.rand(4, 2, generator=generator, dtype=dtype) * 16 - 3
    size = torch.rand(4, 2, generator=generator, dtype=dtype) * 12 + 0.1
    return x, torch.cat([image, corner, corner + size], dim=1)


def plain_bilinear(plane, y, x):
    height, width = plane.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    return sum(
        plane[j, i] * max(0, 1 - abs(y - j)) * max(0, 1 - abs(x - i))
        for j in range(floor(y), min(floor(y) + 2, height))
        for i in range(floor(x), min(floor(x) + 2, width))
    )


def plain_roi_align(x, rois, size, scale, sampling_ratio, pool_mode, aligned):
    x, rois = x.numpy(), rois.numpy()
    y = np.zeros((len(rois), x.shape[1], *size))
    for r, c, i, j in np.ndindex(*y.shape):
        x1, y1, x2, y2 = rois[r, 1:] * scale - (0.5 if aligned else 0)
        w, h = x2 - x1, y2 - y1
        if not aligned:
            w, h = max(w, 1), max(h, 1)
        w, h = w / size[1], h / size[0]
        rows, columns = sampling_ratio or ceil(h), sampling_ratio or ceil(w)
        samples = [
            plain_bilinear(
                x[int(rois[r, 0]), c],
                y1 + (i + (a + 0.5) / rows) * h,
                x1 + (j + (b + 0.5) / columns) * w,
            )
            for a in range(rows)
            for b in range(columns)
        ]
        y[r, c, i, j] = np.mean(samples) if pool_mode == 'avg' else max(samples)
    return torch.from_numpy(y)


def plain_roi_pool(x, rois, size, scale):
    x, rois = x.numpy(), rois.numpy()
    height, width = x.shape[2:]
    y = np.zeros((len(rois), x.shape[1], *size))
    for r, c, i, j in np.ndindex(*y.shape):
        x1, y1 = rois[r, 1:3] * scale
        x2, y2 = (rois[r, 3:] + 1) * scale
        h, w = (y2 - y1) / size[0], (x2 - x1) / size[1]
        if h <= 0 or w <= 0:
            continue
        pixels = [
            x[int(rois[r, 0]), c, v, u]
            for v in range(height)
            for u in range(width)
            if floor(y1 + i * h) <= v < ceil(y1 + (i + 1) * h)
            and floor(x1 + j * w) <= u < ceil(x1 + (j + 1) * w)
        ]
        y[r, c, i, j] = max(pixels, default=0)
    return torch.from_numpy(y)


@pytest.mark.parametrize(
    'name, arguments',
    [
        (f'roialign_avg_aligned{aligned}_sr{ratio}', (0.25, ratio, 'avg', bool(aligned)))
        for aligned in (0, 1)
        for ratio in (0, 2)
    ]
    + [('roialign_max', (0.25, 2, 'max', True))],
)
def test_roi_align_equals_compiled_mmcv_to_the_bit(reference, sine_like, name, arguments):
    x = reference['roi_x'].clone().requires_grad_()
    y = roi_align(x, reference['roi_rois'], (7, 5), *arguments)
    y.backward(sine_like(y))
    assert torch.equal(y, reference[f'{name}_y'])
    assert torch.equal(x.grad, reference[f'{name}_gx'])


@pytest.mark.parametrize('pool_mode', ['avg', 'max'])
@given(SEEDS, st.sampled_from([0, 1, 2]), st.booleans(), st.sampled_from([0.5, 0.75, 1.0]))
def test_roi_align_pools_bilinear_samples(pool_mode, seed, sampling_ratio, aligned, scale):
    x, rois = random_case(seed)
    arguments = ((3, 2), scale, sampling_ratio, pool_mode, aligned)
    assert torch.allclose(roi_align(x, rois, *arguments), plain_roi_align(x, rois, *arguments))


@given(SEEDS, st.sampled_from([0.5, 0.75, 1.0]))
def test_roi_pool_is_the_maximum_over_the_pixels_that_a_bin_touches(seed, scale):
    x, rois = random_case(seed)
    y = roi_pool(x, rois, (3, 2), scale)
    assert torch.allclose(y, plain_roi_pool(x, rois, (3, 2), scale))


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('sampling_ratio', [0, 2])
@pytest.mark.parametrize('pool_mode', ['avg', 'max'])
def test_roi_align_gradient_is_the_derivative(pool_mode, sampling_ratio, seed):
    x, rois = random_case(seed)
    assert torch.autograd.gradcheck(
        lambda x: roi_align(x, rois, (3, 2), 0.5, sampling_ratio, pool_mode, True),
        x[:, :1].requires_grad_(),
    )


@pytest.mark.parametrize('seed', range(3))
def test_roi_pool_gradient_is_the_derivative(seed):
    x, rois = random_case(seed)
    assert torch.autograd.gradcheck(
        lambda x: roi_pool(x, rois, (3, 2), 0.5), x[:, :1].requires_grad_()
    )


@pytest.mark.parametrize('pool', [roi_align, roi_pool])
def test_no_rois_give_no_output_and_no_gradient(pool):
    x = torch.randn(1, 2, 5, 5, requires_grad=True)
    y = pool(x, torch.zeros(0, 5), (3, 2))
    y.sum().backward()
    assert y.shape == (0, 2, 3, 2)
    assert not x.grad.any()


@pytest.mark.parametrize('roi', [[0, 6, 6, 2, 2], [0, 90, 90, 95, 95]])
def test_roi_pool_of_no_pixels_is_zero_without_a_gradient(roi):
    x = torch.randn(1, 2, 8, 8, requires_grad=True)
    y = roi_pool(x, torch.tensor([roi], dtype=torch.float32), (2, 2))
    y.sum().backward()
    assert not y.any() and not x.grad.any()


def test_roi_align_maximum_of_an_empty_grid_has_no_gradient():
    x = torch.randn(1, 2, 8, 8, requires_grad=True)
    y = roi_align(x, torch.tensor([[0.0, 3, 3, 3, 3]]), (2, 2), 1.0, 0, 'max', True)
    y.sum().backward()
    assert (y == -10000).all() and not x.grad.any()


def test_roi_pool_gives_the_gradient_of_equal_pixels_to_the_first():
    x = torch.zeros(1, 1, 3, 3, requires_grad=True)
    roi_pool(x, torch.tensor([[0.0, 0, 1, 2, 2]]), (1, 1)).sum().backward()
    assert x.grad.nonzero().tolist() == [[0, 0, 1, 0]]


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('pool_mode', ['avg', 'max'])
def test_half_precision_rounds_the_result_in_float32(pool_mode, dtype):
    x, rois = random_case(1, dtype=torch.float32)
    x, rois = x.to(dtype).requires_grad_(), rois.to(dtype)
    y = roi_align(x, rois, (3, 2), 0.5, 2, pool_mode, True)
    y.sum().backward()
    wide = roi_align(x.detach().float(), rois.float(), (3, 2), 0.5, 2, pool_mode, True)
    assert y.dtype == x.grad.dtype == dtype
    assert torch.equal(y, wide.to(dtype))
    assert torch.equal(
        roi_pool(x, rois, (3, 2), 0.5), roi_pool(x.float(), rois.float(), (3, 2), 0.5).to(dtype)
    )
