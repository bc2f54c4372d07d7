"""Int8 convolutions, against the formula of their module in NumPy."""

import pickle

import numpy as np
import pytest
import torch
from helpers.byte_sums import CASES, extreme_bytes, integer_sums
from helpers.trained import trained
from torch import nn

import surge_mm
from surge_mm.deploy.cpu import backend, passes
from surge_mm.deploy.real_layers import byte_tiles, exact_sums, int8_on_cpu
from surge_mm.deploy.real_layers.int8_conv import Int8Conv2d, unsupported_reason
from surge_mm.deploy.real_layers.quantization import Range
from surge_mm.ops import Convolution
from surge_mm.ops.byte_convolution import byte_convolution
from surge_mm.utils.errors import UsageError

CONVS = {
    '3x3': lambda: nn.Conv2d(20, 36, 3, padding=1),
    'stem': lambda: nn.Conv2d(3, 16, 7, 2, 3, bias=False),
    '1x1': lambda: nn.Conv2d(33, 40, 1),
    'groups and dilation': lambda: nn.Conv2d(16, 32, 3, padding=2, dilation=2, groups=4),
    'one side padded': lambda: nn.Conv2d(8, 8, (2, 4), padding='same'),
    'norm and activation': lambda: nn.Conv2d(8, 24, 3, padding=1),
    'reflect': lambda: nn.Conv2d(8, 8, 3, padding=1, padding_mode='reflect'),
}


ENGINES = ('tiles', 'passes and oneDNN', 'plain')


def use_engine(engine, monkeypatch):
    """Let layers compute by the compiled tiles, by compiled passes and oneDNN, or by PyTorch alone."""
    if engine == 'plain':
        monkeypatch.setattr(backend, 'kernels', lambda: None)
    elif backend.kernels() is None:
        pytest.skip('needs Numba')
    elif engine == 'passes and oneDNN':
        monkeypatch.setattr(int8_on_cpu, 'can_tile', lambda convolution: False)
    elif not byte_tiles.can_tile(Convolution()):
        pytest.skip('needs AVX-512 VNNI')


@torch.no_grad()
@pytest.mark.parametrize('case', CASES, ids=str)
def test_tiles_sum_extreme_bytes_exactly(case, monkeypatch):
    use_engine('tiles', monkeypatch)
    channels, filters, kernel, stride, groups, _ = case
    conv = nn.Conv2d(channels, filters, kernel, stride, groups=groups, bias=False)
    for q, weight in extreme_bytes(case):
        layer = Int8Conv2d(conv, Range(0.0, 255.0))
        layer.weight.copy_(weight)
        layer.epilogue.m1.fill_(1)
        layer.epilogue.a1.fill_(0)
        assert torch.equal(layer(q.float()), integer_sums(q, weight, stride, groups).float())


def followers(name):
    """Return the norm and the activation after a convolution."""
    if name != 'norm and activation':
        return None, None
    model = trained(nn.Sequential(nn.BatchNorm2d(24), surge_mm.RPReLU(24)))
    return model[0], model[1]


def formula(layer, x):
    """Return the output by NumPy and integers, as the docstring of the module has it."""
    inverse, zero = layer.numbers.numpy()
    if layer.padding_mode == 'reflect':
        x = nn.functional.pad(x, layer.input_padding, mode='reflect')
    y = np.rint(x.numpy() * inverse) + zero
    q = np.where(y > 0, np.minimum(y, np.float32(255)), np.float32(0))
    q = nn.functional.pad(torch.from_numpy(q), layer.convolution.padding, value=float(zero))
    weight = layer.weight
    dilation = layer.convolution.dilation[0]
    if dilation > 1:  # the same filter with zeros between its weights
        size = dilation * (weight.shape[2] - 1) + 1
        spread = weight.new_zeros(*weight.shape[:2], size, size)
        spread[:, :, ::dilation, ::dilation] = weight
        weight = spread
    sums = integer_sums(q, weight, layer.convolution.stride[0], layer.convolution.groups)
    m1, a1, _, _, p, slope, c, low, high = layer.epilogue.table().numpy()[:, None, :, None, None]
    y = sums.numpy().astype(np.float32) * m1 + a1
    if layer.epilogue.activates():
        y = y + p
        y = np.where(y > 0, y, y * slope) + c
        y = np.where(y < low, low, y)
        y = np.where(y > high, high, y)
    return y


@torch.no_grad()
@pytest.mark.parametrize('engine', ENGINES)
@pytest.mark.parametrize('name', CONVS)
def test_the_output_is_that_of_the_formula_to_the_bit(name, engine, monkeypatch):
    use_engine(engine, monkeypatch)
    torch.manual_seed(0)
    layer = Int8Conv2d(CONVS[name](), Range(-1.5, 3.0), *followers(name))
    x = 2 * torch.randn(2, layer.in_channels, 12, 13)
    found = layer(x)
    assert found.is_contiguous(memory_format=torch.channels_last) or engine == 'plain'
    assert np.array_equal(found.numpy(), formula(layer, x))
    assert torch.equal(layer(x[0]), found[0])


@torch.no_grad()
@pytest.mark.parametrize('name', CONVS)
def test_the_output_is_near_that_of_the_convolution(name):
    torch.manual_seed(0)
    conv, (norm, activation) = CONVS[name](), followers(name)
    x = torch.rand(2, conv.in_channels, 12, 13) * 4 - 1
    found, expected = Int8Conv2d(conv, Range(-1.0, 3.0), norm, activation)(x), conv(x)
    if norm is not None:
        expected = activation(norm(expected))
    assert (found - expected).square().mean() < 1e-3 * expected.square().mean()


@torch.no_grad()
@pytest.mark.parametrize(
    'activation', [nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(0.2), nn.Hardtanh(-1, 0.5), nn.PReLU(16)]
)
def test_an_activation_alone_becomes_part_of_it(activation):
    conv, x = CONVS['stem'](), torch.randn(2, 3, 12, 13)
    layer = Int8Conv2d(conv, Range(-3.0, 3.0), None, activation)
    expected = activation(Int8Conv2d(conv, Range(-3.0, 3.0))(x))
    assert torch.equal(layer(x), expected)
    assert np.array_equal(layer(x).numpy(), formula(layer, x))


@torch.no_grad()
def test_numbers_that_are_not_finite_or_out_of_range_are_clipped():
    layer = Int8Conv2d(nn.Conv2d(1, 1, 1, bias=False), Range(-1.0, 1.0))
    layer.weight.fill_(1)
    layer.epilogue.m1.fill_(1)
    layer.epilogue.a1.fill_(0)
    x = torch.tensor([float('nan'), float('inf'), -float('inf'), 1e30, -1e30, 0.0, 1.0, -1.0])
    expected = [0.0, 255.0, 0.0, 255.0, 0.0, 128.0, 255.0, 0.0]
    x = x.reshape(1, 1, 1, -1)
    assert layer(x).flatten().tolist() == expected
    assert layer.quantize(x).flatten().tolist() == expected


POOLS = {
    'no pool': None,
    '3x3': nn.MaxPool2d(3, 2, 1),
    '2x2': nn.MaxPool2d(2),
    'overlapping rows': nn.MaxPool2d((4, 1), (1, 3), (2, 0)),
}


@torch.no_grad()
@pytest.mark.parametrize('pool', POOLS)
@pytest.mark.parametrize('threads', [1, 2, 5])
@pytest.mark.parametrize('engine', ENGINES[:2])
def test_any_number_of_threads_computes_the_same(engine, threads, pool, monkeypatch):
    use_engine(engine, monkeypatch)
    layer = Int8Conv2d(CONVS['3x3'](), Range(-1.0, 1.0), None, nn.PReLU(36), POOLS[pool])
    x = torch.randn(3, 20, 17, 15)
    expected = torch.from_numpy(formula(layer, x))
    if POOLS[pool] is not None:
        expected = POOLS[pool](expected)
    monkeypatch.setattr(passes, 'WORTH_THREADS', 0)
    monkeypatch.setattr(torch, 'get_num_threads', lambda: threads)
    assert torch.equal(layer(x), expected)


@torch.no_grad()
def test_a_pool_keeps_nan_and_the_first_of_two_zeros_as_pytorch_does():
    layer = Int8Conv2d(nn.Conv2d(1, 1, 1, bias=False), Range(-1.0, 1.0), pool=nn.MaxPool2d(1, 2))
    plain = Int8Conv2d(nn.Conv2d(1, 1, 1, bias=False), Range(-1.0, 1.0))
    for m1, a1 in ((float('nan'), 0.0), (0.0, -0.0), (-0.0, 0.0)):
        for one in (layer, plain):
            one.weight.fill_(1)
            one.epilogue.m1.fill_(m1)
            one.epilogue.a1.fill_(a1)
            one.drop_prepared()
        for pool in (nn.MaxPool2d(1, 2), nn.MaxPool2d(2)):
            layer.pool = pool
            layer.drop_prepared()
            x = torch.randn(1, 1, 4, 4)
            found, expected = (y.view(torch.int32) for y in (layer(x), pool(plain(x))))
            assert torch.equal(found, expected)


@torch.no_grad()
def test_the_weight_is_laid_out_once_for_any_number_of_images(monkeypatch):
    layouts = []

    def counted(*args):
        layouts.append(args)
        return byte_convolution(*args)

    use_engine('passes and oneDNN', monkeypatch)
    monkeypatch.setattr(int8_on_cpu, 'byte_convolution', counted)
    layer = Int8Conv2d(CONVS['3x3'](), Range(-1.0, 1.0))
    for count in (1, 2, 5):
        x = torch.randn(count, 20, 9, 9)
        assert np.array_equal(layer(x).numpy(), formula(layer, x))
    assert len(layouts) == exact_sums.onednn_is_exact()


@torch.no_grad()
def test_without_the_operators_of_onednn_the_output_is_the_same(monkeypatch):
    use_engine('passes and oneDNN', monkeypatch)
    layer, x = Int8Conv2d(CONVS['stem'](), Range(-1.0, 1.0)), torch.randn(1, 3, 17, 15)
    monkeypatch.setattr(int8_on_cpu, 'onednn_is_exact', lambda: False)
    assert np.array_equal(layer(x).numpy(), formula(layer, x))


@torch.no_grad()
def test_a_copy_and_a_loaded_state_dict_compute_with_their_own_numbers():
    torch.manual_seed(0)
    x = torch.randn(1, 20, 9, 9)
    first, second = (Int8Conv2d(CONVS['3x3'](), Range(-1.0, i)) for i in (1.0, 2.0))
    expected = first(x)
    assert not torch.equal(second(x), expected)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second(x), expected)
    assert torch.equal(pickle.loads(pickle.dumps(first))(x), expected)
    torch.testing.assert_close(first.double()(x.double()).float(), expected)


@torch.no_grad()
def test_a_graph_of_torch_export_gives_the_same_output():
    layer = Int8Conv2d(CONVS['one side padded'](), Range(-1.0, 1.0))
    x = torch.randn(1, 8, 9, 9)
    program = torch.export.export(layer, (x,)).module()
    assert torch.equal(program(x), layer(x))


def test_a_gradient_or_an_input_of_another_shape_is_an_error():
    layer = Int8Conv2d(CONVS['3x3']())
    with pytest.raises(UsageError, match='Int8Conv2d has no gradient: packed models are for'):
        layer(torch.randn(1, 20, 9, 9, requires_grad=True))
    with pytest.raises(UsageError, match=r'must have 20 channels'):
        layer(torch.randn(1, 21, 9, 9))


def test_a_filter_with_too_many_weights_or_one_that_is_not_finite_is_not_supported():
    conv = nn.Conv2d(4, 4, 3)
    assert unsupported_reason(conv) == ''
    conv.weight.data[0, 0, 0, 0] = float('inf')
    assert unsupported_reason(conv) == 'its weights are not finite'
    with torch.device('meta'):
        large = nn.Conv2d(133_675, 1, 1)
    large.weight = nn.Parameter(torch.ones(1, 133_675, 1, 1))
    assert 'has 133,675 weights, whose sums do not fit' in unsupported_reason(large)


@torch.no_grad()
def test_a_large_convolution_has_the_outputs_of_tiles_by_the_operator_of_onednn(monkeypatch):
    if not byte_tiles.can_tile(Convolution()) or not exact_sums.onednn_is_exact():
        pytest.skip('needs AVX-512 VNNI and the operators of oneDNN')
    torch.manual_seed(0)
    x, conv = torch.randn(1, 16, 9, 9), nn.Conv2d(16, 24, 3)
    by_tiles = Int8Conv2d(conv, Range(-3.0, 3.0))
    expected = by_tiles(x)
    monkeypatch.setattr(int8_on_cpu, 'has_amx', lambda: True)
    monkeypatch.setattr(int8_on_cpu, 'MOST_PRODUCTS', 7 * 7 * 24 * 16 * 9 - 1)
    by_onednn = Int8Conv2d(conv, Range(-3.0, 3.0))
    assert torch.equal(by_onednn(x), expected)
    assert by_onednn._on_cpu()._sums_of.cache_info().currsize == 1
    assert by_tiles._on_cpu()._sums_of.cache_info().currsize == 0


@torch.no_grad()
@pytest.mark.parametrize('filters', [15, 16, 33, 63, 64])
@pytest.mark.parametrize('pixels', [1, 11, 12, 13, 25])
def test_tiles_of_any_number_of_pixels_and_filters(pixels, filters, monkeypatch):
    use_engine('tiles', monkeypatch)
    layer, x = (
        Int8Conv2d(nn.Conv2d(10, filters, 1), Range(-1.0, 1.0)),
        torch.randn(2, 10, 1, pixels),
    )
    found = layer(x)
    use_engine('plain', monkeypatch)
    assert torch.equal(found, layer(x))


@torch.no_grad()
@pytest.mark.parametrize('width', [3, 11, 12, 26])
def test_tiles_pool_rows_of_any_width(width, monkeypatch):
    use_engine('tiles', monkeypatch)
    pool = nn.MaxPool2d(3, 2, 1)
    layer = Int8Conv2d(CONVS['stem'](), Range(-3.0, 3.0), None, nn.ReLU(), pool)
    x = torch.randn(2, 3, 22, 2 * width)
    assert torch.equal(layer(x), pool(torch.from_numpy(formula(layer, x))))


@torch.no_grad()
@pytest.mark.parametrize('engine', ENGINES)
def test_an_input_too_small_for_the_pool_is_an_error(engine, monkeypatch):
    use_engine(engine, monkeypatch)
    conv = nn.Conv2d(3, 16, 3, padding=1)
    layer = Int8Conv2d(conv, Range(-1.0, 1.0), pool=nn.MaxPool2d(4))
    with pytest.raises((UsageError, RuntimeError), match=r'max pool behind it, \(4, 4\)|too small'):
        layer(torch.randn(2, 3, 3, 12))
