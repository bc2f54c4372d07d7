"""Kernels in C against the packed layers in Python: random geometries, the same numbers for both."""

import os
import shutil
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.c_kernels import CPUS, Layer, Program, compile_library, emulator, signs_of
from torch import nn

from surge_mm import SurgeConv2d
from surge_mm.deploy import PackedConv2d
from surge_mm.deploy.c.compile import THREADS, VECTORS
from surge_mm.deploy.c.epilogues import thresholds
from surge_mm.deploy.c.weights import workspace
from surge_mm.deploy.packing.epilogue import ROWS, Epilogue
from surge_mm.deploy.real_layers.int8_conv import Int8Conv2d
from surge_mm.deploy.real_layers.quantization import Range
from surge_mm.ops import Convolution

pytestmark = pytest.mark.skipif(shutil.which('cc') is None, reason='no C compiler')
FLAGS = ('-std=c99', '-Wall', '-Wextra', '-Werror')
SPECIAL = (0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan)
CHANNELS = (1, 3, 8, 16, 24, 32, 40, 64, 70, 128)


@pytest.fixture(scope='session')
def compiled(tmp_path_factory):
    folder = tmp_path_factory.mktemp('kernels')
    if target := os.environ.get('SURGE_C_TARGET'):
        zig = [sys.executable, '-m', 'ziglang', 'cc', '-target', target, '-static', '-O1', *FLAGS]
        zig += [VECTORS] if target.startswith('wasm') else []
        return Program(folder, zig, emulator(target), not target.startswith('riscv'))
    return compile_library(folder, 'cc', '-O1', *FLAGS, *THREADS)


@pytest.fixture(params=['emulated'] if 'SURGE_C_TARGET' in os.environ else CPUS)
def library(compiled, request):
    if isinstance(compiled, Program):
        return compiled
    if compiled.test_cpu(CPUS[request.param]) != CPUS[request.param]:
        pytest.skip('this CPU has not these instructions')
    return compiled


class Case:
    """A random convolution with an input, a shortcut and steps.

    Attributes:
        weight (np.ndarray): Normal numbers, ``(C_out, C_in / groups, kH, kW)``.
        x (np.ndarray): ``(H, W, C_in)``, with numbers of :data:`SPECIAL`.
        shortcut (np.ndarray, optional): ``(H', W', C_out)``.
        steps (dict[str, np.ndarray]): Steps of the epilogue.
    """

    def __init__(self, seed):
        self.random = random = np.random.default_rng(seed)
        groups = int(random.choice([1, 1, 1, 2, 4]))
        channels, filters = (groups * int(random.choice(CHANNELS)) for _ in range(2))
        if seed % 8 == 7:  # a filter per channel
            groups = filters = channels
        kernel, stride, dilation = (
            tuple(map(int, random.choice(values, 2)))
            for values in ([1, 2, 3, 3, 5], [1, 1, 2, 3], [1, 1, 2])
        )
        padding = tuple(map(int, random.integers(0, 4, 4) * random.integers(0, 2)))
        self.convolution = Convolution(stride, padding, dilation, groups)
        extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        before = (padding[2] + padding[3], padding[0] + padding[1])
        size = [
            max(1, e - b) + int(random.integers(0, 14))
            for e, b in zip(extents, before, strict=True)
        ]
        self.weight = self.normal(filters, channels // groups, *kernel)
        self.x = self.some_special(self.normal(*size, channels))
        out = (*self.convolution.output_size(*size, kernel), filters)
        self.shortcut = self.some_special(self.normal(*out)) if random.integers(0, 2) else None
        self.out_shift = self.normal(filters) if random.integers(0, 2) else None
        self.steps = {
            step: self.normal(filters)
            for pair in (('m1', 'a1'), ('m2', 'a2'), ('p', 'c'), ('slope',), ('low', 'high'))
            if random.integers(0, 2)
            for step in pair
        }
        if 'low' in self.steps:
            self.steps['high'] = self.steps['low'] + 2

    def normal(self, *shape):
        return self.random.standard_normal(shape, np.float32)

    def some_special(self, values):
        if self.random.integers(0, 2):
            return values
        chosen = self.random.choice(np.float32(SPECIAL), values.shape)
        return np.where(self.random.random(values.shape) < 0.2, chosen, values)

    def fill(self, epilogue):
        """Set the steps of a packed layer."""
        for name in ROWS:
            epilogue.register_buffer(name, None)
        for name, values in self.steps.items():
            epilogue.set(name, torch.from_numpy(values))

    def finish(self, sums):
        """Return what the steps give for sums ``(H', W', C_out)``, by PyTorch."""
        epilogue = Epilogue(len(self.weight))
        self.fill(epilogue)
        shortcut = None if self.shortcut is None else nchw(self.shortcut)
        return nhwc(epilogue(nchw(sums), shortcut))

    def check(self, layer, expected, **given):
        """Compare outputs and signs, each also alone."""
        given |= {'shortcut': self.shortcut, 'out_shift': self.out_shift}
        out, words = layer.run(self.x, **given)
        same_numbers(out, expected)
        shifted = expected if self.out_shift is None else expected + self.out_shift
        numbers = ~np.isnan(shifted)  # CPUs differ in the sign of a NaN that they make
        masks = signs_of(np.where(numbers, np.float32(-1), np.float32(1)))
        assert np.array_equal(words & masks, signs_of(shifted) & masks)
        assert not (
            words & ~signs_of(np.full_like(expected, -1))
        ).any()  # bits after the last channel
        same_numbers(layer.run(self.x, signs=False, **given)[0], expected)
        assert np.array_equal(layer.run(self.x, values=False, **given)[1], words)


def nchw(values):
    return torch.from_numpy(values).permute(2, 0, 1)[None]


def nhwc(tensor):
    return np.ascontiguousarray(tensor[0].permute(1, 2, 0).numpy())


def same_numbers(one, other):
    """Check that all bits are the same, but those of a NaN."""
    assert np.array_equal(np.isnan(one), np.isnan(other))
    numbers = ~np.isnan(other)
    assert np.array_equal(one[numbers].view(np.uint32), other[numbers].view(np.uint32))


@torch.no_grad()
@pytest.mark.parametrize('seed', range(40))
def test_binary_convolution_equals_the_packed_layer_to_the_bit(library, seed):
    case = Case(seed)
    signs = np.where(case.weight < 0, np.float32(-1), np.float32(1))
    shift = case.normal(case.x.shape[2]) if seed % 3 == 0 else None
    pad_value = (0, 1, -1)[seed % 3]
    filters, channels, *kernel = signs.shape
    groups = case.convolution.groups
    surge = SurgeConv2d(channels * groups, filters, tuple(kernel), groups=groups, bias=False)
    surge.weight.copy_(torch.from_numpy(signs))
    packed = PackedConv2d(surge)
    packed.convolution, packed.pad_value = case.convolution, pad_value
    packed.shift = None if shift is None else torch.from_numpy(shift)
    case.fill(packed.epilogue)
    shortcut = None if case.shortcut is None else nchw(case.shortcut)
    expected = nhwc(packed.run(nchw(case.x), shortcut).values)
    options = {'pad_value': pad_value} | ({} if shift is None else {'shift': shift})
    layer = Layer(library, 'binary', signs, case.convolution, case.steps, **options)
    case.check(layer, expected)
    if groups == 1:
        bits = signs_of(case.x if shift is None else case.x + shift)
        case.check(layer, expected, bits=bits)
    case.steps.pop('slope', None)
    layer = Layer(library, 'binary', signs, case.convolution, case.steps, **options)
    both = thresholds(case.steps, case.out_shift, filters, signs[0].size)
    steps = dict(zip(('m1', 'a1'), both, strict=True))
    other = Layer(library, 'binary', signs, case.convolution, steps, thresholds=1, **options)
    by_steps = layer.run(case.x, values=False, out_shift=case.out_shift)[1]
    assert np.array_equal(other.run(case.x, values=False)[1], by_steps)


@torch.no_grad()
@pytest.mark.parametrize('seed', range(40))
def test_int8_convolution_equals_the_packed_layer_to_the_bit(library, seed):
    case = Case(seed)
    case.shortcut = None
    for step in ('m2', 'a2'):
        case.steps.pop(step, None)
    random = np.random.default_rng(seed)
    weight = random.integers(-63, 64, case.weight.shape).astype(np.int8)
    if seed % 10 == 0:  # the largest sums
        weight[:] = 63
        case.x[:] = 9
    filters, channels, *kernel = weight.shape
    groups = case.convolution.groups
    conv = nn.Conv2d(channels * groups, filters, tuple(kernel), groups=groups, bias=False)
    int8 = Int8Conv2d(conv, Range(-1.0, 1.5))
    int8.weight.copy_(torch.from_numpy(weight))
    int8.convolution = case.convolution
    case.fill(int8.epilogue)
    inverse, zero = int8.numbers.tolist()
    layer = Layer(
        library, 'int8', weight, case.convolution, case.steps, inverse=inverse, zero=int(zero)
    )
    case.check(layer, nhwc(int8.compute(nchw(case.x))))


@torch.no_grad()
@pytest.mark.parametrize('seed', range(40))
def test_float_convolution_is_near_that_of_pytorch(library, seed):
    case = Case(seed)
    case.x = case.normal(*case.x.shape)
    options = {'bias': case.normal(len(case.weight))} if seed % 2 else {}
    c = case.convolution
    x = F.pad(nchw(case.x), c.padding).double()
    sums = F.conv2d(
        x, torch.from_numpy(case.weight).double(), None, c.stride, 0, c.dilation, c.groups
    )
    sums = nhwc(sums.float()) + options.get('bias', np.float32(0))
    layer = Layer(library, 'float', case.weight, c, {}, **options)
    found, words = layer.run(case.x)
    assert np.abs(found - sums).max() <= 1e-5 * np.abs(sums).max()
    assert np.array_equal(words, signs_of(found))
    # the steps after the sums
    layer = Layer(library, 'float', case.weight, c, case.steps, **options)
    case.check(layer, case.finish(found))


def test_a_layer_with_weights_and_a_map_above_1_mb_is_near_that_of_pytorch(library):
    random = np.random.default_rng(0)
    weight = random.standard_normal((520, 520, 1, 1), np.float32)
    x = random.standard_normal((21, 27, 520), np.float32)
    sums = nhwc(F.conv2d(nchw(x), torch.from_numpy(weight), padding=1))
    found, _ = Layer(library, 'float', weight, Convolution(padding=(1, 1, 1, 1)), {}).run(x)
    assert np.abs(found - sums).max() <= 1e-5 * np.abs(sums).max()


@pytest.mark.parametrize('threads', [2, 3])
@pytest.mark.parametrize('kind', ['binary', 'int8', 'float'])
def test_threads_give_the_bits_of_one(library, kind, threads):
    if isinstance(library, Program):
        pytest.skip('it has one thread')
    options = {'binary': {'pad_value': 0}, 'int8': {'inverse': 100, 'zero': 99}, 'float': {}}[kind]
    for seed in range(40):
        case = Case(seed)
        weight = case.weight
        if kind == 'int8':
            weight = np.clip(20 * weight, -63, 63).astype(np.int8)
        layer = Layer(library, kind, weight, case.convolution, case.steps, **options)
        given = {'shortcut': case.shortcut, 'out_shift': case.out_shift}
        expected = layer.run(case.x, **given)
        with layer.threads(threads, case.x.shape[:2]):
            found = layer.run(case.x, **given)
        assert all(a.tobytes() == b.tobytes() for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize('kind', ['binary', 'int8', 'float'])
def test_a_smaller_input_needs_no_larger_workspace(kind):
    random = np.random.default_rng(0)
    for _ in range(300):
        shape = tuple(map(int, random.choice([1, 3, 5, 64, 300], 2))) + (3, 3)
        padding = tuple(map(int, random.integers(0, 3, 4)))
        convolution = Convolution((int(random.integers(1, 3)), 1), padding)
        size = random.integers(3, 200, 2)
        smaller = [int(random.integers(3, n + 1)) for n in size]
        largest = workspace(kind, shape, convolution, tuple(map(int, size)))
        assert workspace(kind, shape, convolution, tuple(smaller)) <= largest
