"""Time int8 convolutions by the compiled tiles and by oneDNN's operator, in turn, on one thread.

python benchmarks/int8_layers.py
python benchmarks/int8_layers.py --layers 256,720,3,1,40 64,128,1,1,28 --rounds 50

A layer is its input channels, filters, kernel, stride and the pixels of a side of its input. The stem of 7x7 has its
max pool. Outputs of both are compared to the bit first. With AMX, large layers are computed by oneDNN in both columns.
"""

import argparse
from functools import partial
from statistics import median
from unittest import mock

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from surge_mm.analysis.timing import cpu_name, interleaved_times
from surge_mm.deploy import instruction_set
from surge_mm.deploy.real_layers import int8_on_cpu
from surge_mm.deploy.real_layers.int8_conv import Int8Conv2d
from surge_mm.deploy.real_layers.quantization import Range
from surge_mm.launch.cli import Parser, check_least, run

STEM = 7
LAYERS = [
    (3, 64, STEM, 2, 320),
    (3, 32, 3, 2, 128),
    (256, 720, 3, 1, 40),
    (256, 720, 3, 1, 10),
    (256, 36, 3, 1, 40),
    (256, 80, 3, 1, 40),
    (64, 64, 3, 1, 56),
    (64, 10, 3, 1, 16),
    (64, 128, 1, 1, 28),
    (128, 256, 1, 1, 40),
    (512, 256, 1, 1, 10),
    (1024, 256, 1, 1, 20),
]


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--layers', nargs='+', type=layer, default=LAYERS)
    parser.add_argument('--rounds', type=int, default=30, help='default: 30')
    args = parser.parse_args()
    check_least(args, 1, 'rounds')
    torch.set_num_threads(1)
    table = Table(title=f'{cpu_name()}, {instruction_set()}, one thread')
    for heading in ('layer', 'tiles, ms', 'oneDNN, ms', 'ratio'):
        table.add_column(heading, justify='left' if heading == 'layer' else 'right')
    for numbers in args.layers:
        tiles, onednn = (1e3 * median(times) for times in measure(numbers, args.rounds).values())
        channels, filters, kernel, stride, pixels = numbers
        name = (
            f'{channels} to {filters}, {kernel}x{kernel} with stride {stride}, at {pixels}x{pixels}'
        )
        table.add_row(name, f'{tiles:.3f}', f'{onednn:.3f}', f'{tiles / onednn:.2f}')
    Console(width=100).print(table)


def layer(text: str) -> tuple[int, ...]:
    """Return the five numbers of a layer.

    Raises:
        argparse.ArgumentTypeError: if the text has others.
    """
    words = text.split(',')
    if len(words) != 5 or not all(word.isdecimal() and int(word) for word in words):
        raise argparse.ArgumentTypeError(
            f'{text!r} must be channels, filters, kernel, stride and pixels, such as 64,128,1,1,28'
        )
    return tuple(map(int, words))


@torch.inference_mode()
def measure(numbers: tuple[int, ...], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each call, by tiles and by oneDNN.

    Args:
        numbers (tuple[int, ...]): The layer.
        rounds (int): Number of calls of each.
    """
    channels, filters, kernel, stride, pixels = numbers
    torch.manual_seed(0)
    conv = nn.Conv2d(channels, filters, kernel, stride, kernel // 2)
    pool = nn.MaxPool2d(3, 2, 1) if kernel == STEM else None
    x = torch.randn(1, channels, pixels, pixels).contiguous(memory_format=torch.channels_last)
    layers = {name: Int8Conv2d(conv, Range(-3.0, 3.0), pool=pool) for name in ('tiles', 'oneDNN')}
    out = layers['tiles'](x)
    with mock.patch.object(int8_on_cpu, 'can_tile', return_value=False):
        assert torch.equal(layers['oneDNN'](x), out)
    return interleaved_times({n: partial(own, x) for n, own in layers.items()}, rounds, 2)


if __name__ == '__main__':
    run(main)
