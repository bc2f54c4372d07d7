"""Time of one image, size of the file and memory: float32, int8 and packed, of one structure.

python tools/benchmark_inference.py layer                # the 3x3 convolutions of ResNet-18
python tools/benchmark_inference.py layer --channels 96 --pixels 40
python tools/benchmark_inference.py backbone             # ResNet-18 at 224 pixels
python tools/benchmark_inference.py detector             # RetinaNet, binary but for the predictors, at 320 pixels
python tools/benchmark_inference.py detector --config my_config.py --pixels 640

The variants:
  float                PyTorch, channels_last, inference mode; the same structure with real convolutions
  int8                 PyTorch's quantized operators; a layer takes and gives int8, as within a network
  packed               surge_mm.deploy.pack of the binary model; a layer takes and gives float32
  packed, from signs   a layer that finds the sign bits of its input made, as behind another packed layer
Weights and the statistics of batch norms are random, on which speed does not depend. A detector is timed without the
decoding of boxes; one of two stages with the proposals that its RPN makes of noise. Each variant in turn, 20 images of
a layer or 3 of a network at a time; medians of the turns, and of these the ratios. File: the bytes of the tensors.
Peak memory: of a process that runs the variant on one thread, Python and PyTorch included, its building left out.
"""

import argparse
import json
import os
import platform
import re
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

import surge_mm
from surge_mm.analysis.inference_cost import measure, plot_rows
from surge_mm.analysis.inference_subjects import NOT_AVAILABLE, Setting, quiet
from surge_mm.analysis.machine import STAT, Others
from surge_mm.analysis.operations import count_costs
from surge_mm.analysis.peak_memory import CLEAR, STATUS
from surge_mm.deploy import instruction_set
from surge_mm.launch.cli import Parser, add_settings, run
from surge_mm.launch.config import load_config
from surge_mm.launch.runner import build_model
from surge_mm.utils.errors import LaunchError

RESNET18 = ((64, 56), (128, 28), (256, 14), (512, 7))
CPUS = os.cpu_count() or 1
PIXELS = {'layer': 56, 'backbone': 224, 'detector': 320}


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=list(PIXELS))
    parser.add_argument('--channels', type=int, help="of a layer; default the four of ResNet-18's")
    parser.add_argument('--pixels', type=int, help='height and width of the input')
    parser.add_argument('--depth', type=int, help='of the backbone; default 18')
    parser.add_argument('--config', help='of a detector with binary layers')
    add_settings(parser)
    parser.add_argument('--threads', type=int, nargs='+', default=[1, 2], help='default 1 2')
    parser.add_argument('--rounds', type=int, default=30, help='measured turns; default 30')
    parser.add_argument('--warmup', type=int, default=3, help='turns before them; default 3')
    parser.add_argument('--plot', metavar='PNG', help='draw the times there')
    parser.add_argument('--json', metavar='FILE', help='also write the figures there')
    args = parser.parse_args()
    check(args)
    title = (
        f'{cpu()}, {instruction_set()}, torch {torch.__version__}, surge_mm {surge_mm.__version__}'
    )
    chosen = settings(args)
    quiet()
    rows, others = [], Others()
    for setting in chosen:
        rows += measure(setting, args.threads, args.rounds, args.warmup, track)
    busy = others.cpus()
    missing = NOT_AVAILABLE.get(args.what, {})
    show(rows, missing, args.threads, title)
    if busy + max(args.threads) > CPUS + 0.25:
        print(
            f'note: other programs kept {busy:.1f} of {CPUS} CPUs busy meanwhile, which left less than one for each '
            'thread: times are too long'
        )
    if args.plot:
        print(plot_rows(rows, args.plot))
    if args.json:
        answer = {
            'title': title,
            'rows': [row.as_dict() for row in rows],
            'not_available': missing,
            'cpus': CPUS,
            'cpus_busy_elsewhere': busy,
        }
        Path(args.json).write_text(json.dumps(answer, indent=1) + '\n')


def settings(args):
    """What is measured."""
    pixels = args.pixels or PIXELS[args.what]
    if args.what == 'layer' and args.channels is None and args.pixels is None:
        return [Setting('layer', size, size, channels) for channels, size in RESNET18]
    model = None if args.config is None else detector_of(args, pixels)
    return [Setting(args.what, pixels, pixels, args.channels or 64, args.depth or 18, model)]


def detector_of(args, pixels):
    """The model of a user's config, which is known to run on such an image."""
    cfg = load_config(args)
    if cfg.default_scope != 'mmdet':
        raise LaunchError(
            f'--config {args.config!r} is for {cfg.default_scope}; it must be that of a detector of MMDetection'
        )
    costs = count_costs(build_model(cfg), pixels, pixels)
    if not any(layer.binary for layer in costs.layers):
        raise LaunchError(
            f'--config {args.config!r} has no binary layer, so there is nothing to pack; take one with a binary '
            "backbone, or type='surge_mm.Binarized'"
        )
    return cfg.model


def check(args):
    """Refuse what cannot be measured, before time is spent."""
    for name in ('channels', 'pixels', 'rounds'):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise LaunchError(f'--{name} {value} must be at least 1')
    if args.warmup < 0:
        raise LaunchError(f'--warmup {args.warmup} must be at least 0')
    for count in args.threads:
        if count < 1:
            raise LaunchError(f'--threads {count} must be at least 1')
    if len(set(args.threads)) < len(args.threads):
        raise LaunchError(f'--threads {" ".join(map(str, args.threads))} names a number twice')
    if args.depth is not None and args.what != 'backbone':
        raise LaunchError(f'--depth is for a backbone, not for a {args.what}')
    if args.depth not in (None, 18, 34, 50):
        raise LaunchError(f'--depth {args.depth} must be 18, 34 or 50')
    if args.what != 'layer' and args.channels is not None:
        raise LaunchError(f'--channels is for a layer, not for a {args.what}')
    if args.what != 'detector' and args.config is not None:
        raise LaunchError(f'--config is for a detector, not for a {args.what}')
    if args.cfg_options and args.config is None:
        raise LaunchError('--cfg-options changes the config that --config names, so it needs one')
    if args.what != 'layer' and args.pixels is not None and args.pixels < 32:
        raise LaunchError(f'--pixels {args.pixels} must be at least 32 for a {args.what}')
    for option in ('plot', 'json'):
        path = getattr(args, option)
        if path and (Path(path).is_dir() or not Path(path).absolute().parent.is_dir()):
            raise LaunchError(f'--{option} {path!r} must be a file in a folder that is there')
    if not all(path.exists() for path in (STATUS, CLEAR, STAT)):
        raise LaunchError(
            'peak memory is read from /proc, which this system does not have: use Linux'
        )


def cpu() -> str:
    """The name of the CPU."""
    named = re.search(r'model name\s*:\s*(.+)', Path('/proc/cpuinfo').read_text())
    return named[1] if named else platform.machine()


def show(rows, missing, threads, title):
    table = Table(title=title)
    table.add_column('one image')
    table.add_column('variant')
    for count in threads:
        table.add_column(f'ms, {count} thread{"s" if count > 1 else ""}', justify='right')
        table.add_column('times float', justify='right')
    for column in ('gain of threads', 'file', 'peak memory'):
        table.add_column(column, justify='right')
    for row in rows:
        cells = []
        for count in threads:
            cells += [f'{row.milliseconds[count]:,.3g}', f'{row.speed[count]:.2f}']
        gain = row.gain()
        cells.append('' if gain is None else f'{gain:.2f}')
        cells += [f'{row.file_MB:,.2f} MB', f'{row.peak_MB:,.0f} MB']
        table.add_row(row.name, row.variant, *cells)
    for variant in missing:
        table.add_row(rows[0].name, variant, 'not available')
    console = Console(width=130)
    console.print(table)
    for variant, why in missing.items():
        console.print(f'{variant} is not available: {why}')


if __name__ == '__main__':
    run(main, 'nothing was written')
