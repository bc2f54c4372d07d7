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


# kernel, stride, dilation, padding, width: one column of output, which a stride above 1 has no use for
ONE_COLUMN = [
    ((3, 2), (1, 2), (1, 1), (0, 0, 0, 0), 3),
    ((3, 3), (2, 2), (1, 1), (1, 1, 1, 1), 2),
    ((2, 5), (2, 3), (1, 1), (0, 2, 0, 1), 5),
    ((3, 3), (1, 3), (2, 2), (0, 0, 0, 0), 6),
    ((1, 1), (2, 2), (1, 1), (0, 0, 0, 0), 2),
]


@pytest.mark.parametrize(('kernel_size', 'stride', 'dilation', 'padding', 'width'), ONE_COLUMN)
@pytest.mark.parametrize('channels', [8, 64])
def test_one_column_in_bfloat16_is_that_of_float32(
    kernel_size, stride, dilation, padding, width, channels
):
    torch.manual_seed(0)
    convolution = Convolution(stride, padding, dilation)
    x = torch.randint(-1, 2, (2, channels, 21, width)).float()
    w = torch.randint(-1, 2, (32, channels, *kernel_size)).float()
    for pad_value in (0.0, 1.0):  # the padding of conv2d, and one of its own
        out = convolution.forward(x.bfloat16(), w.bfloat16(), None, pad_value)
        assert out.is_contiguous() and out.shape[3] == 1
        assert torch.equal(out, convolution.forward(x, w, None, pad_value).bfloat16())


@pytest.mark.parametrize('stride', [(1, 1), (1, 2), (2, 3)])
@pytest.mark.parametrize('dilation', [1, 2])
@pytest.mark.parametrize('width', range(5, 12))
def test_a_stride_idles_where_it_is_above_1_and_the_output_has_one_column(stride, dilation, width):
    convolution = Convolution(stride, dilation=(dilation, dilation))
    _, columns = convolution.output_size(9, width, (3, 3))
    assert convolution.idles(width, 3) == (columns == 1 and stride[1] > 1)
