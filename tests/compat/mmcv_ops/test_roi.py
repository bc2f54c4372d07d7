import re
from math import ceil, floor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmcv.ops import roi_align

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


def plain_roi_align(x, rois, size, scale, sampling_ratio, aligned):
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
        y[r, c, i, j] = np.mean(samples)
    return torch.from_numpy(y)


@pytest.mark.parametrize(
    'name, arguments',
    [
        (f'roialign_avg_aligned{aligned}_sr{ratio}', (0.25, ratio, 'avg', bool(aligned)))
        for aligned in (0, 1)
        for ratio in (0, 2)
    ],
)
def test_roi_align_equals_compiled_mmcv_to_the_bit(reference, sine_like, name, arguments):
    x = reference['roi_x'].clone().requires_grad_()
    y = roi_align(x, reference['roi_rois'], (7, 5), *arguments)
    y.backward(sine_like(y))
    assert torch.equal(y, reference[f'{name}_y'])
    assert torch.equal(x.grad, reference[f'{name}_gx'])


@given(SEEDS, st.sampled_from([0, 1, 2]), st.booleans(), st.sampled_from([0.5, 0.75, 1.0]))
def test_roi_align_pools_bilinear_samples(seed, sampling_ratio, aligned, scale):
    x, rois = random_case(seed)
    y = roi_align(x, rois, (3, 2), scale, sampling_ratio, 'avg', aligned)
    assert torch.allclose(y, plain_roi_align(x, rois, (3, 2), scale, sampling_ratio, aligned))


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('sampling_ratio', [0, 2])
def test_roi_align_gradient_is_the_derivative(sampling_ratio, seed):
    x, rois = random_case(seed)
    assert torch.autograd.gradcheck(
        lambda x: roi_align(x, rois, (3, 2), 0.5, sampling_ratio, 'avg', True),
        x[:, :1].requires_grad_(),
    )


def test_no_rois_give_no_output_and_no_gradient():
    x = torch.randn(1, 2, 5, 5, requires_grad=True)
    y = roi_align(x, torch.zeros(0, 5), (3, 2))
    y.sum().backward()
    assert y.shape == (0, 2, 3, 2)
    assert not x.grad.any()


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_rounds_the_result_in_float32(dtype):
    x, rois = random_case(1, dtype=torch.float32)
    x, rois = x.to(dtype).requires_grad_(), rois.to(dtype)
    y = roi_align(x, rois, (3, 2), 0.5, 2, 'avg', True)
    y.sum().backward()
    wide = roi_align(x.detach().float(), rois.float(), (3, 2), 0.5, 2, 'avg', True)
    assert y.dtype == x.grad.dtype == dtype
    assert torch.equal(y, wide.to(dtype))


def test_the_maximum_is_named_as_missing():
    with pytest.raises(NotImplementedError, match="pool_mode='max'.* Use pool_mode='avg'"):
        roi_align(torch.ones(1, 1, 4, 4), torch.zeros(1, 5), (2, 2), 1.0, 0, 'max', True)


@pytest.mark.parametrize(
    'region',
    [
        [2, 1, 1, 4, 4],
        [-1, 1, 1, 4, 4],
        [0, 4, 1, 1, 4],
        [0, 1, 1, 1e9, 4],
        [0, 1, 1, 1e7, 1e7],
    ],
)
def test_a_region_that_torchvision_fails_for_is_named(region):
    rois = torch.tensor([[0, 1, 1, 4, 4], region], dtype=torch.float)
    with pytest.raises(ValueError, match=re.escape(f'the region {rois[1].tolist()}')):
        roi_align(torch.randn(2, 3, 6, 6), rois, (2, 2), 1.0, 0, 'avg', True)


def test_regions_without_area_or_numbers_are_pooled_as_before():
    rois = torch.tensor([[0, 4, 4, 4, 4], [1, 2, 2, 1.9, 3], [0, 1, 1, float('nan'), 4]])
    assert roi_align(torch.randn(2, 3, 6, 6), rois, (2, 2), 1.0, 0, 'avg', True).shape[0] == 3
