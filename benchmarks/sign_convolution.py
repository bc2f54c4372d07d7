"""Time the forward pass of binary 3x3 layers in training, in bytes and in float32, in turn.

python benchmarks/sign_convolution.py
python benchmarks/sign_convolution.py --layers 64,56 512,14 --batch 8 --threads 1 --contiguous

A layer is its channels and the pixels of a side of its input. All are computed in bytes, also those that are too small
to be so in training. The processor must have AMX, AVX512_VNNI or AVX_VNNI; ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI in the
environment imitates one without AMX.
"""

import argparse
from functools import partial
from statistics import median
from unittest import mock

import torch
from rich.console import Console
from rich.table import Table

from surge_mm.analysis.timing import cpu_name, interleaved_times
from surge_mm.launch.cli import Parser, check_least, run
from surge_mm.layers import SurgeConv2d
from surge_mm.ops import sign_convolution
from surge_mm.ops.byte_convolution import what_fails_in_onednn
from surge_mm.utils.cpu_features import has_byte_units
from surge_mm.utils.errors import LaunchError

LAYERS = [(32, 56), (64, 56), (128, 28), (256, 14), (512, 7), (512, 14)]


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--layers', nargs='+', type=layer, default=LAYERS)
    parser.add_argument('--batch', type=int, default=16, help='images; default: 16')
    parser.add_argument('--threads', type=int, default=2, help='default: 2')
    parser.add_argument('--rounds', type=int, default=20, help='default: 20')
    parser.add_argument('--contiguous', action='store_true', help='not channels_last')
    args = parser.parse_args()
    for name in ('batch', 'threads', 'rounds'):
        check_least(args, 1, name)
    if not has_byte_units() or what_fails_in_onednn():
        reason = what_fails_in_onednn() or 'it has neither AMX nor VNNI'
        raise LaunchError(f'binary layers are computed in float32 alone on this CPU: {reason}')
    torch.set_num_threads(args.threads)
    memory_format = torch.contiguous_format if args.contiguous else torch.channels_last
    table = Table(title=f'{cpu_name()}, {args.threads} threads, batch {args.batch}')
    for heading in ('layer', 'float32, ms', 'bytes, ms', 'ratio'):
        table.add_column(heading, justify='left' if heading == 'layer' else 'right')
    for channels, pixels in args.layers:
        shape = (args.batch, channels, pixels, pixels)
        seconds = measure(shape, memory_format, args.rounds)
        usual, in_bytes = (1e3 * median(times) for times in seconds)
        name = f'{channels} channels at {pixels}x{pixels}'
        table.add_row(name, f'{usual:.2f}', f'{in_bytes:.2f}', f'{in_bytes / usual:.2f}')
    Console(width=100).print(table)


def layer(text: str) -> tuple[int, ...]:
    """Return the two numbers of a layer.

    Raises:
        argparse.ArgumentTypeError: if the text has others.
    """
    words = text.split(',')
    if len(words) != 2 or not all(word.isdecimal() and int(word) for word in words):
        raise argparse.ArgumentTypeError(f'{text!r} must be channels and pixels, such as 64,56')
    return tuple(map(int, words))


@torch.no_grad()
def measure(
    shape: tuple[int, ...], memory_format: torch.memory_format, rounds: int
) -> list[list[float]]:
    """Return the seconds of each forward pass, in float32 and in bytes.

    Args:
        shape (tuple[int, ...]): Shape of the input, ``(N, C, H, W)``.
        memory_format (torch.memory_format): That of the input and of the weight.
        rounds (int): Number of passes of each.
    """
    torch.manual_seed(0)
    layer = SurgeConv2d(shape[1], shape[1], 3, padding=1, bias=False)
    layer = layer.to(memory_format=memory_format)
    x = torch.randn(shape).contiguous(memory_format=memory_format)

    def usual() -> None:
        with mock.patch.object(sign_convolution, 'has_byte_units', return_value=False):
            layer(x)

    passes = {'float32': usual, 'bytes': partial(layer, x)}
    with mock.patch.multiple(sign_convolution, LEAST_OUTPUTS=0, LEAST_PRODUCTS=0):
        return list(interleaved_times(passes, rounds, 2).values())


if __name__ == '__main__':
    run(main)
