import pytest
import torch
import torch.nn.functional as F

from surge_mm.ops import Convolution


@pytest.mark.parametrize('kernel_size', [(1, 1), (3, 3), (2, 5)])
@pytest.mark.parametrize('stride', [(1, 1), (2, 3)])
@pytest.mark.parametrize('dilation', [(1, 1), (2, 1)])
@pytest.mark.parametrize('padding', [(0, 0, 0, 0), (1, 2, 0, 3)])
def test_sizes_are_those_of_pytorch(kernel_size, stride, dilation, padding):
    convolution = Convolution(stride, padding, dilation)
    x, w = torch.zeros(1, 1, 9, 12), torch.zeros(1, 1, *kernel_size)
    padded = F.pad(x, padding)
    assert convolution.padded_size(9, 12) == padded.shape[2:]
    out = F.conv2d(padded, w, None, stride, 0, dilation)
    assert convolution.output_size(9, 12, kernel_size) == out.shape[2:]


def test_a_kernel_larger_than_the_padded_input_has_no_output():
    assert Convolution(padding=(1, 0, 0, 0)).output_size(2, 2, (3, 4)) == (0, 0)
