"""Packed layers, and int8 ones, in a process that compiles them for another CPU."""

import os
import sys

import torch
from torch import nn

from surge_mm import SurgeConv2d
from surge_mm.deploy import PackedConv2d, instruction_set
from surge_mm.deploy.real_layers.exact_sums import float64_sums
from surge_mm.deploy.real_layers.int8_conv import Int8Conv2d
from surge_mm.deploy.real_layers.quantization import Range
from surge_mm.layers import RPReLU


def run_packed(settings, folder):
    """Compare packed layers with binary ones and int8 layers with PyTorch; write instruction set and messages.

    Args:
        settings (dict[str, str]): variables of Numba, which must not have been imported yet.
        folder (Path): folder of the compiled loops, and of the files ``instructions`` and ``messages``.
    """
    assert 'numba' not in sys.modules
    os.environ.update(settings, NUMBA_CACHE_DIR=str(folder))
    messages = os.open(folder / 'messages', os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(messages, 1)
    os.dup2(messages, 2)
    torch.set_num_threads(1)
    square, row, column = (9, 7), (2, 8), (5, 1)
    shapes = (
        (square, 70, 24, 3, 1, 1),
        (square, 64, 40, 3, 2, 1),
        (square, 64, 16, 1, 1, 1),
        (square, 320, 20, 5, 1, 1),
        (square, 700, 9, 3, 1, 1),
        (row, 128, 160, 3, 1, 2),
        (column, 64, 100, 3, 1, 1),
    )
    for size, channels, filters, kernel, stride, groups in shapes:
        geometry = {'padding': 1, 'groups': groups}
        layer = SurgeConv2d(channels, filters, kernel, stride, **geometry).eval()
        x = torch.randn(2, channels, *size)
        with torch.no_grad():
            assert torch.equal(PackedConv2d(layer)(x), layer(x))
    check_largest_counts()
    for channels in (32, 36, 44):
        compare_epilogue(channels)
    if 'NUMBA_CPU_FEATURES' in settings:
        compare_int8()
    (folder / 'instructions').write_text(instruction_set())


@torch.no_grad()
def check_largest_counts():
    """Compute sums for which every bit differs, of more steps than a byte can count, or 16 bits."""
    for channels, kernel in ((1000, 3), (1000, 1), (70, 5), (66_000, 1)):
        layer = SurgeConv2d(channels, 5, kernel, bias=False, weight={'type': 'Sign'}).eval()
        layer.weight.fill_(-0.5)
        out = PackedConv2d(layer)(torch.ones(1, channels, 6, 5))
        assert (out == -channels * kernel * kernel).all()


@torch.no_grad()
def compare_epilogue(channels):
    """Compare norm, shortcut, activation and signs with PyTorch's, and signs by thresholds with those of the output."""
    conv = SurgeConv2d(70, channels, 3, padding=1).eval()
    norm, activation = nn.BatchNorm2d(channels).eval(), RPReLU(channels)
    nn.init.uniform_(norm.running_var, 10, 200)
    for parameter in (norm.running_mean, norm.weight, norm.bias, activation.a, activation.c):
        nn.init.normal_(parameter)
    layer = PackedConv2d(conv)
    layer.epilogue.fold_norm(norm)
    layer.epilogue.fold_activation(activation)
    following = PackedConv2d(SurgeConv2d(channels, 8, 3, padding=1).eval())
    x, shortcut = torch.randn(2, 70, 9, 37), torch.randn(2, channels, 9, 37)

    out = layer.run(x, shortcut, following=following)
    torch.testing.assert_close(
        out.values, activation(norm(conv(x)) + shortcut), rtol=1e-6, atol=1e-6
    )
    assert torch.equal(following.run(out.signs).values, following(out.values))
    signs = layer.run(x, following=following, values=False).signs
    assert torch.equal(signs.words, layer.run(x, following=following).signs.words)


@torch.no_grad()
def compare_int8():
    """Compare the compiled passes of int8 layers with operators of PyTorch."""
    for channels, filters, kernel, pool in ((20, 36, 3, None), (3, 16, 7, nn.MaxPool2d(3, 2, 1))):
        conv = nn.Conv2d(channels, filters, kernel, 2, 1)
        layer = Int8Conv2d(conv, Range(-1.5, 3.0), None, nn.PReLU(filters), pool)
        x = 2 * torch.randn(2, channels, 19, 18)
        out = layer.epilogue(float64_sums(layer.weight, layer.convolution)(layer.quantize(x)))
        assert torch.equal(layer(x), out if pool is None else pool(out))
