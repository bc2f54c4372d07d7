"""Time and memory of a training step, as ratios to a binary network written the usual way.

python tools/benchmark_training.py backbone                  # ResNet-18, batch 16, 224 pixels
python tools/benchmark_training.py detector                  # Faster R-CNN R18 FPN, batch 2, 320 pixels
python tools/benchmark_training.py layer --channels 128 --pixels 28
python tools/benchmark_training.py backbone --growth growth.png

The variants, of one structure:
  full precision   real weights and activations
  usual STE        sign and scaled sign as autograd steps of their own, then a convolution
  STE              compensator=None
  naive SURGE      usual STE, a second convolution and a detach, with a fixed scale
  SURGE            compensator=dict(eta=0.1)
  SURGE lite       compensator=dict(eta=0.1, tied=True)
A step is forward, backward and SGD with momentum on random data. One step of each variant in turn; medians.
"""

import argparse
import json
from dataclasses import fields, replace
from pathlib import Path
from statistics import median

import torch
from mmengine.logging import MMLogger
from rich.console import Console
from rich.progress import track
from rich.table import Table

import surge_mm
from surge_mm.analysis.peak_memory import STATUS
from surge_mm.analysis.peak_memory import peak_memory as peak_of_process
from surge_mm.analysis.training_cost import (
    Growth,
    exponent,
    interleaved_times,
    plot_growth,
    ratio,
    saved_bytes,
)
from surge_mm.analysis.training_subjects import (
    CONVOLUTIONS,
    LITE,
    PLAIN,
    SURGE,
    USUAL,
    Setting,
    Subject,
)
from surge_mm.launch.cli import Parser, run
from surge_mm.utils.errors import LaunchError


def peak_memory(variant, setting, threads):
    """Peak memory of two steps in MB: of the device, or of a process of its own."""
    if setting.device != 'cpu':
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        two_steps(variant, setting)
        return torch.cuda.max_memory_allocated() / 1e6
    return peak_of_process(two_steps_of, variant, setting, threads)


def two_steps_of(variant, setting, threads):
    torch.set_num_threads(threads)
    MMLogger.get_current_instance().setLevel('ERROR')
    two_steps(variant, setting)


def two_steps(variant, setting):
    subject = Subject(variant, setting)
    for _ in range(2):
        subject.step()


def compare(setting, args):
    """A row for each variant."""
    subjects = {name: Subject(name, setting) for name in CONVOLUTIONS}
    saved = {
        name: saved_bytes(subject.model, subject.loss, subject.names)
        for name, subject in track(subjects.items(), 'memory kept')
    }
    times = timed(subjects, args)
    del subjects
    peaks = {
        name: peak_memory(name, setting, args.threads)
        for name in track(CONVOLUTIONS, 'peak memory')
    }
    return [
        {
            'variant': name,
            'seconds': median(times[name]),
            'time': ratio(times, name, USUAL),
            'saved_binary_MB': saved[name].binary / 1e6,
            'saved_binary': share(saved[name].binary, saved[USUAL].binary),
            'saved_whole_MB': saved[name].whole / 1e6,
            'saved_whole': share(saved[name].whole, saved[USUAL].whole),
            'peak_MB': peaks[name],
            'peak': peaks[name] / peaks[USUAL],
            'all_seconds': times[name],
        }
        for name in CONVOLUTIONS
    ]


def share(part, whole):
    """None where nothing is kept, as by the layers within blocks that are computed again (--with-cp)."""
    return part / whole if whole else None


def timed(subjects, args):
    after = torch.cuda.synchronize if args.device != 'cpu' else lambda: None
    steps = {name: subject.step for name, subject in subjects.items()}
    return interleaved_times(steps, args.steps, args.warmup, after)


def grow(setting, args):
    """The costs of usual STE, STE, SURGE and its lite form along batch, pixels and channels."""
    axes = {
        'batch': [setting.batch // i for i in (8, 4, 2, 1)],
        'pixels': sorted({max(setting.pixels * i // 4 // 32 * 32, 32) for i in (2, 3, 4)}),
        'channels': [setting.channels // i for i in (4, 2, 1)],
    }
    growths = []
    for axis, sizes in axes.items():
        sizes = [size for size in sizes if size > 0]
        seconds = {name: [] for name in (USUAL, PLAIN, SURGE, LITE)}
        kept = {name: [] for name in seconds}
        for size in track(sizes, f'growth along {axis}'):
            one = replace(setting, **{axis: size})
            subjects = {name: Subject(name, one) for name in seconds}
            times = timed(subjects, args)
            for name, subject in subjects.items():
                seconds[name].append(min(times[name]))
                kept[name].append(saved_bytes(subject.model, subject.loss, subject.names).whole)
        sizes = [size**2 for size in sizes] if axis == 'pixels' else sizes
        growths.append(Growth(axis, sizes, seconds, kept))
    return growths


def show(rows, title):
    table = Table(title=title)
    table.add_column('variant')
    for column in ('ms a step', 'time', 'saved, binary layers', 'saved, all', 'peak memory'):
        table.add_column(column, justify='right')
    for row in rows:
        table.add_row(
            row['variant'],
            f'{1e3 * row["seconds"]:,.1f}',
            f'{row["time"]:.2f}',
            amount(row['saved_binary_MB'], row['saved_binary']),
            amount(row['saved_whole_MB'], row['saved_whole']),
            f'{row["peak_MB"]:,.0f} MB, {row["peak"]:.2f}',
        )
    Console(width=120).print(table)


def amount(megabytes, ratio):
    return f'{megabytes:,.1f} MB' + (f', {ratio:.2f}' if ratio is not None else '')


DEFAULTS = {
    'layer': {'batch': 16, 'pixels': 56, 'channels': 64},
    'backbone': {'batch': 16, 'pixels': 224, 'channels': 64},
    'detector': {'batch': 2, 'pixels': 320, 'channels': 64},
}


def main():
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=list(DEFAULTS))
    for name in ('batch', 'pixels', 'channels'):
        parser.add_argument(f'--{name}', type=int)
    parser.add_argument('--depth', type=int, default=18, help='of the backbone; default 18')
    parser.add_argument('--steps', type=int, default=10, help='measured steps; default 10')
    parser.add_argument('--warmup', type=int, default=2, help='steps before them; default 2')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--dtype', choices=['fp32', 'bf16'], default='fp32', help='bf16: autocast')
    parser.add_argument(
        '--device', choices=['cpu', 'cuda'], default='cuda' if torch.cuda.is_available() else 'cpu'
    )
    parser.add_argument(
        '--channels-last', action='store_true', help='memory format of all variants'
    )
    parser.add_argument(
        '--with-cp',
        action='store_true',
        help="recompute the backbone's blocks in the backward pass",
    )
    parser.add_argument('--compile', action='store_true', help='torch.compile each model')
    parser.add_argument(
        '--growth', metavar='PNG', help='measure how the costs grow instead, and draw it'
    )
    parser.add_argument('--json', metavar='FILE', help='also write the figures there')
    args = parser.parse_args()
    for name, value in DEFAULTS[args.what].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    check(args)
    setting = Setting(**{field.name: getattr(args, field.name) for field in fields(Setting)})
    torch.set_num_threads(args.threads)
    MMLogger.get_current_instance().setLevel('ERROR')
    title = f'{args.what}, batch {args.batch}, {args.pixels} pixels, {args.dtype}, {args.device}'
    title += f', {args.threads} threads, torch {torch.__version__}, surge_mm {surge_mm.__version__}'
    if args.growth:
        growths = grow(setting, args)
        answer = [growth._asdict() for growth in growths]
        for growth in growths:
            for what, curves in (('time', growth.seconds), ('memory', growth.bytes)):
                fitted = ', '.join(
                    f'{name} {exponent(growth.sizes, values):.3f}'
                    for name, values in curves.items()
                )
                print(f'exponent of {what} in {growth.axis} {growth.sizes}: {fitted}')
        print(plot_growth(growths, args.growth))
    else:
        answer = compare(setting, args)
        show(answer, title)
    if args.json:
        Path(args.json).write_text(json.dumps({'title': title, 'rows': answer}, indent=1) + '\n')


def check(args):
    """Refuse what cannot be measured, before time is spent."""
    for name in ('batch', 'pixels', 'channels', 'steps', 'threads'):
        if getattr(args, name) < 1:
            raise LaunchError(f'--{name} {getattr(args, name)} must be at least 1')
    if args.warmup < 0:
        raise LaunchError(f'--warmup {args.warmup} must be at least 0')
    if args.device == 'cpu' and not STATUS.is_file():
        raise LaunchError(
            'peak memory is read from /proc, which this system does not have: use Linux'
        )
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise LaunchError('--device cuda: PyTorch sees no GPU here; take --device cpu')
    if args.what != 'layer' and args.pixels < 32:
        raise LaunchError(f'--pixels {args.pixels} must be at least 32 for a {args.what}')
    if args.depth not in (18, 34, 50):
        raise LaunchError(f'--depth {args.depth} must be 18, 34 or 50')
    if args.with_cp and args.what != 'backbone':
        raise LaunchError('--with-cp is for the backbone')
    if args.growth and (args.what == 'detector' or args.batch < 8):
        raise LaunchError('--growth needs a layer or a backbone, and a --batch of at least 8')
    for option in ('growth', 'json'):
        path = getattr(args, option)
        if path and (Path(path).is_dir() or not Path(path).absolute().parent.is_dir()):
            raise LaunchError(f'--{option} {path!r} must be a file in a folder that is there')


if __name__ == '__main__':
    run(main, 'nothing was written')
