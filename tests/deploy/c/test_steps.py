"""Operations between the convolutions in C against PyTorch."""

import ctypes

import pytest
import torch
import torch.nn.functional as F
from helpers.c_code import COMPILER, compiled, pointer

pytestmark = pytest.mark.skipif(COMPILER is None, reason='no C compiler')
CALL = """
void call_pool(const surge_window *w, const int *s, const float *x, float *out)
{
    surge_shape in = {s[0], s[1], s[2]};
    surge_pool(NULL, w, in, x, out);
}"""
KERNEL, STRIDE, PAD = (3, 2), (2, 1), (1, 1)


@pytest.fixture(scope='module')
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp('steps')
    return compiled(folder, 'layers.h', 'threads.c', 'steps.c', CALL)


@pytest.mark.parametrize('mean', [False, True])
@pytest.mark.parametrize('channels', [1, 5, 15, 16, 17, 22, 32, 43])
@pytest.mark.parametrize('ceil_mode', [False, True])
def test_pools_equal_those_of_pytorch_to_the_bit(library, channels, mean, ceil_mode):
    torch.manual_seed(channels)
    x = torch.randn(1, channels, 8, 7).contiguous(memory_format=torch.channels_last)
    special = torch.tensor([0.0, -0.0, torch.inf, torch.nan]).repeat(5)
    x[0].permute(1, 2, 0).view(-1)[torch.randperm(x.numel())[:20]] = special
    if mean:
        expected = F.avg_pool2d(x, KERNEL, STRIDE, PAD, ceil_mode, count_include_pad=False)
    else:
        expected = F.max_pool2d(x, KERNEL, STRIDE, PAD, ceil_mode=ceil_mode)
    window = (ctypes.c_int * 8)(*KERNEL, *STRIDE, *PAD, ceil_mode, mean)
    shape = (ctypes.c_int * 3)(8, 7, channels)
    out = torch.full((*expected.shape[2:], channels), torch.nan)
    library.call_pool(window, shape, pointer(x[0].permute(1, 2, 0).numpy()), pointer(out.numpy()))
    expected = expected[0].permute(1, 2, 0)
    assert torch.equal(out.isnan(), expected.isnan())
    assert torch.equal(out.nan_to_num(7), expected.nan_to_num(7))
    assert torch.equal(out.nan_to_num(7).signbit(), expected.nan_to_num(7).signbit())
