"""Time binary layers of an exported C file against those of the packed model in Python, one thread.

python benchmarks/c_layers.py
python benchmarks/c_layers.py --channels 64 256 --rounds 40

For each number of channels, a network of ten binary convolutions of 3x3, each with a batch norm and a PReLU, and one of
two are run in C and in Python in turn, with random weights. The time of a layer is an eighth of the difference of both,
of the shortest CPU times. The maps of C and of Python are compared before. The compiler is that of CC.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from benchmark_cases.c_model import Library
from torch import nn

from surge_mm import SurgeConv2d
from surge_mm.deploy import pack
from surge_mm.deploy.c.export import export_c

SIZES = {64: 56, 128: 28, 256: 14, 512: 7}
"""Height and width of the maps of a ResNet for each number of channels, for an image of 224x224."""
FEW, MANY = 2, 10


def network(channels: int, layers: int) -> nn.Module:
    """Return a packed network of ``layers`` binary layers behind a 1x1 convolution, with random weights."""
    torch.manual_seed(0)
    modules: list[nn.Module] = [nn.Conv2d(3, channels, 1)]
    for _ in range(layers):
        modules += [SurgeConv2d(channels, channels, 3, padding=1, bias=False)]
        modules += [nn.BatchNorm2d(channels), nn.PReLU(channels)]
    return pack(nn.Sequential(*modules).eval())


def time_layers(channels: int, rounds: int, folder: Path) -> tuple[float, float]:
    """Return the milliseconds of a layer in C and in Python.

    Args:
        channels (int): Input and output channels, a key of :data:`SIZES`.
        rounds (int): Runs of each network.
        folder (Path): Folder for the C files.

    Raises:
        AssertionError: if the maps in C differ from those in Python.
    """
    size = SIZES[channels]
    image = torch.randn(1, 3, size, size)
    runs: dict[tuple[str, int], Callable[[], object]] = {}
    for layers in (FEW, MANY):
        model, part = network(channels, layers), folder / f'{channels}_{layers}'
        part.mkdir()
        library = Library(part, export_c(model, part / 'net.c', (size, size)), 1)
        expected, (found,) = model(image), library.maps(image)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        runs['C', layers] = lambda library=library: library.maps(image)
        runs['Python', layers] = lambda model=model: model(image)
    shortest = dict.fromkeys(runs, float('inf'))
    for _ in range(rounds):
        for key, run in runs.items():
            start = time.process_time()
            run()
            shortest[key] = min(shortest[key], time.process_time() - start)
    of_c, of_python = (
        1000 * (shortest[engine, MANY] - shortest[engine, FEW]) / (MANY - FEW)
        for engine in ('C', 'Python')
    )
    return of_c, of_python


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--channels', type=int, nargs='+', choices=SIZES, default=[*SIZES], help='default: all'
    )
    parser.add_argument('--rounds', type=int, default=100, help='runs of each; default: 100')
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error(f'--rounds {args.rounds} must be at least 1')
    torch.set_num_threads(1)
    print('| Channels | Map | C, ms | Python, ms | C by Python |\n| --- | --- | --- | --- | --- |')
    with tempfile.TemporaryDirectory() as folder:
        for channels in args.channels:
            of_c, of_python = time_layers(channels, args.rounds, Path(folder))
            row = f'{SIZES[channels]}x{SIZES[channels]} | {of_c:.3f} | {of_python:.3f}'
            print(f'| {channels} | {row} | {of_c / of_python:.2f} |', flush=True)


if __name__ == '__main__':
    main()
