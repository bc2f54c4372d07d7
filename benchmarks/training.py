"""Measure time and memory of a training step, as ratios to a binary network written the usual way.

python benchmarks/training.py backbone                  # ResNet-18, batch 16, 224 pixels
python benchmarks/training.py detector                  # Faster R-CNN R18 FPN, batch 2, 320 pixels
python benchmarks/training.py layer --channels 128 --pixels 28
python benchmarks/training.py resnet20 --dtype fp32 bf16 --cpu-time     # ResNet-20, batch 128, 16 pixels
python benchmarks/training.py backbone --growth growth.png

Variants of one structure:
  full precision   real weights and activations
  usual STE        sign and scaled sign as separate autograd steps, then a convolution
  STE              compensator=None
  naive SURGE      usual STE, a second convolution and a detach, with a fixed scale
  SURGE            compensator=dict(eta=0.1)
  SURGE lite       compensator=dict(eta=0.1, tied=True)
  ..., bf16 branch with dtype='bfloat16' in the compensator
A step is forward, backward and SGD with momentum on random data. The variants take turns; medians are reported.
"""

import argparse
import time
from dataclasses import fields, replace
from statistics import median

import torch
from benchmark_cases.peak_memory import STATUS, peak_memory
from benchmark_cases.training import (
    CONVOLUTIONS,
    LITE,
    LITE_BF16,
    PLAIN,
    SURGE,
    SURGE_BF16,
    USUAL,
    BenchmarkCase,
    Workload,
    train_two_steps,
)
from benchmark_cases.training_cost import Growth, growth_exponent, plot_growth, saved_bytes
from mmengine.logging import MMLogger
from rich.console import Console
from rich.progress import track
from rich.table import Table

import surge_mm
from surge_mm.analysis.timing import interleaved_times, median_ratio
from surge_mm.launch.cli import Parser, check_least, run
from surge_mm.launch.output_files import add_json, check_output
from surge_mm.utils.atomic_write import write_json
from surge_mm.utils.errors import LaunchError

DEFAULTS = {
    'layer': {'batch': 16, 'pixels': 56, 'channels': 64},
    'backbone': {'batch': 16, 'pixels': 224, 'channels': 64},
    'resnet20': {'batch': 128, 'pixels': 16, 'channels': 16},
    'detector': {'batch': 2, 'pixels': 320, 'channels': 64},
}


def main() -> None:
    args = parse_arguments()
    check(args)
    settings = {field.name: getattr(args, field.name) for field in fields(Workload)}
    workload = Workload(**{**settings, 'dtype': args.dtype[0]})
    torch.set_num_threads(args.threads)
    MMLogger.get_current_instance().setLevel('ERROR')
    title = f'{args.what}, batch {args.batch}, {args.pixels} pixels, {" and ".join(args.dtype)}, {args.device}'
    title += f', {args.threads} threads, torch {torch.__version__}, surge_mm {surge_mm.__version__}'
    if args.growth:
        growths = measure_growth(workload, args)
        rows = [growth._asdict() for growth in growths]
        print_exponents(growths)
        print(plot_growth(growths, args.growth))
    else:
        rows = compare(workload, args)
        print_table(rows, title)
    if args.json:
        write_json(args.json, {'title': title, 'rows': rows})


def parse_arguments() -> argparse.Namespace:
    """Parse the command line and fill in the defaults of the chosen structure."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=list(DEFAULTS))
    for name in ('batch', 'pixels', 'channels'):
        parser.add_argument(f'--{name}', type=int)
    parser.add_argument('--depth', type=int, default=18, help='depth of the backbone; default 18')
    parser.add_argument('--steps', type=int, default=10, help='measured steps; default 10')
    parser.add_argument('--warmup', type=int, default=2, help='steps before them; default 2')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument(
        '--dtype', nargs='+', choices=['fp32', 'bf16'], default=['fp32'], help='bf16: autocast'
    )
    parser.add_argument(
        '--cpu-time', action='store_true', help='measure CPU time of the process, not time'
    )
    parser.add_argument(
        '--device', choices=['cpu', 'cuda'], default='cuda' if torch.cuda.is_available() else 'cpu'
    )
    parser.add_argument(
        '--channels-last', action='store_true', help='use the channels_last memory format'
    )
    parser.add_argument(
        '--with-cp',
        action='store_true',
        help="recompute the backbone's blocks in the backward pass",
    )
    parser.add_argument('--compile', action='store_true', help='compile each model (torch.compile)')
    parser.add_argument(
        '--growth', metavar='PNG', help='measure and draw how the costs grow, instead of a table'
    )
    add_json(parser)
    args = parser.parse_args()
    for name, value in DEFAULTS[args.what].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


def check(args: argparse.Namespace) -> None:
    """Check the arguments before anything is measured."""
    check_least(args, 1, 'batch', 'pixels', 'channels', 'steps', 'threads')
    check_least(args, 0, 'warmup')
    if args.device == 'cpu' and not STATUS.is_file():
        raise LaunchError('peak memory is read from /proc, which this system lacks: use Linux')
    if args.cpu_time and args.device != 'cpu':
        raise LaunchError('--cpu-time is for --device cpu')
    if len(args.dtype) != len(set(args.dtype)) or (args.growth and len(args.dtype) > 1):
        raise LaunchError(f'--dtype {" ".join(args.dtype)}: name each once, and one with --growth')
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise LaunchError('--device cuda: PyTorch finds no GPU; use --device cpu')
    if args.what in ('backbone', 'detector') and args.pixels < 32:
        raise LaunchError(f'--pixels {args.pixels} must be at least 32 for a {args.what}')
    if args.depth not in (18, 34, 50):
        raise LaunchError(f'--depth {args.depth} must be 18, 34 or 50')
    if args.with_cp and args.what != 'backbone':
        raise LaunchError('--with-cp is for the backbone')
    if args.growth and (args.what not in ('layer', 'backbone') or args.batch < 8):
        raise LaunchError('--growth needs a layer or a backbone, and a --batch of at least 8')
    check_output(args, 'growth', '.png')
    check_output(args, 'json', '.json')


def compare(workload: Workload, args: argparse.Namespace) -> list[dict]:
    """Measure every variant in every dtype and return a row for each."""
    several = len(args.dtype) > 1
    variants = {
        f'{name}, autocast' if several and dtype == 'bf16' else name: (name, dtype)
        for dtype in args.dtype
        for name in CONVOLUTIONS
        if dtype == 'fp32' or name not in (SURGE_BF16, LITE_BF16)
    }
    cases = {
        label: BenchmarkCase(name, replace(workload, dtype=dtype))
        for label, (name, dtype) in variants.items()
    }
    saved = {
        name: saved_bytes(case.model, case.loss, case.names)
        for name, case in track(cases.items(), 'saved bytes')
    }
    times = timed(cases, args)
    del cases
    peaks = {
        label: peak_of_variant(name, replace(workload, dtype=dtype), args.threads)
        for label, (name, dtype) in track(variants.items(), 'peak memory')
    }
    return [
        {
            'variant': name,
            'seconds': median(times[name]),
            'time': median_ratio(times, name, USUAL),
            'saved_binary_MB': saved[name].layers / 1e6,
            'saved_binary': share(saved[name].layers, saved[USUAL].layers),
            'saved_whole_MB': saved[name].model / 1e6,
            'saved_whole': share(saved[name].model, saved[USUAL].model),
            'peak_MB': peaks[name],
            'peak': peaks[name] / peaks[USUAL],
            'all_seconds': times[name],
        }
        for name in variants
    ]


def timed(cases: dict[str, BenchmarkCase], args: argparse.Namespace) -> dict[str, list[float]]:
    """Time a step of each case in turn."""
    synchronize = torch.cuda.synchronize if args.device != 'cpu' else lambda: None
    steps = {name: case.step for name, case in cases.items()}
    clock = time.process_time if args.cpu_time else time.perf_counter
    return interleaved_times(steps, args.steps, args.warmup, synchronize, clock)


def share(part: int, total: int) -> float | None:
    """Return the ratio; None if nothing is saved, as by layers in recomputed blocks (--with-cp)."""
    return part / total if total else None


def peak_of_variant(variant: str, workload: Workload, threads: int) -> float:
    """Return the peak memory of two steps in MB: of the GPU, or of a process of its own."""
    if workload.device != 'cpu':
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        train_two_steps(variant, workload, threads)
        return torch.cuda.max_memory_allocated() / 1e6
    return peak_memory(train_two_steps, variant, workload, threads)


def measure_growth(workload: Workload, args: argparse.Namespace) -> list[Growth]:
    """Measure the binary variants along batch, pixels and channels."""
    axes = {
        'batch': [workload.batch // i for i in (8, 4, 2, 1)],
        'pixels': sorted({max(workload.pixels * i // 4 // 32 * 32, 32) for i in (2, 3, 4)}),
        'channels': [workload.channels // i for i in (4, 2, 1)],
    }
    growths = []
    for axis, values in axes.items():
        sizes = [size for size in values if size > 0]
        seconds = {name: [] for name in (USUAL, PLAIN, SURGE, LITE)}
        saved = {name: [] for name in seconds}
        for size in track(sizes, f'growth along {axis}'):
            resized = replace(workload, **{axis: size})
            cases = {name: BenchmarkCase(name, resized) for name in seconds}
            times = timed(cases, args)
            for name, case in cases.items():
                seconds[name].append(min(times[name]))
                saved[name].append(saved_bytes(case.model, case.loss, case.names).model)
        sizes = [size**2 for size in sizes] if axis == 'pixels' else sizes
        growths.append(Growth(axis, sizes, seconds, saved))
    return growths


def print_exponents(growths: list[Growth]) -> None:
    """Print the fitted exponents of time and memory."""
    for growth in growths:
        for what, curves in (('time', growth.seconds), ('memory', growth.bytes)):
            fitted = ', '.join(
                f'{name} {growth_exponent(growth.sizes, values):.3f}'
                for name, values in curves.items()
            )
            print(f'exponent of {what} in {growth.axis} {growth.sizes}: {fitted}')


def print_table(rows: list[dict], title: str) -> None:
    """Print the rows of :func:`compare`."""
    table = Table(title=title)
    table.add_column('variant')
    for column in ('ms a step', 'time', 'saved, binary layers', 'saved, all', 'peak memory'):
        table.add_column(column, justify='right')
    for row in rows:
        table.add_row(
            row['variant'],
            f'{1e3 * row["seconds"]:,.1f}',
            f'{row["time"]:.2f}',
            megabytes(row['saved_binary_MB'], row['saved_binary']),
            megabytes(row['saved_whole_MB'], row['saved_whole']),
            megabytes(row['peak_MB'], row['peak']),
        )
    Console(width=120).print(table)


def megabytes(amount: float, ratio: float | None) -> str:
    """Format an amount and its ratio to the usual STE."""
    return f'{amount:,.1f} MB' + (f', {ratio:.2f}' if ratio is not None else '')


if __name__ == '__main__':
    run(main, 'nothing was written')
