"""Measure the time of one image, the size of the file and memory: float32, int8 and packed.

python benchmarks/inference.py layer                # the 3x3 convolutions of ResNet-18
python benchmarks/inference.py layer --channels 96 --pixels 40
python benchmarks/inference.py chain                # 8 of each of them, of which each hands signs to the next
python benchmarks/inference.py backbone             # ResNet-18 at 224 pixels
python benchmarks/inference.py detector             # RetinaNet, binary except its predictors, at 320 pixels
python benchmarks/inference.py chain --against openvino onnxruntime --threads 1

Variants of one structure:
  float                PyTorch with real convolutions, channels_last, inference mode
  int8                 PyTorch's quantized operators; a layer takes and returns int8, as inside a network
  packed               surge_mm.deploy.pack of the binary model; a layer takes and returns float32
  packed, from signs   a layer that takes sign bits, as behind another packed layer
  packed, real layers in int8
                       a network of pack(model, real='int8', calibration=...)
  OpenVINO INT8, ONNX Runtime INT8
                       --against, for a chain or a backbone: the float network, quantized statically
  OpenVINO binary      --against openvino, for a chain: its operator BinaryConvolution
Weights and the statistics of batch norms are random; speed does not depend on them. The decoding of a detector's boxes
is not measured. The variants take turns of 20 images (layer), 5 (chain) or 3 (networks); medians of the turns are
reported, of CPU time with one thread and of the time of the clock with more. The time of a chain is that of all its
layers. File: bytes of the tensors. Peak memory: of a process that runs the variant on one thread, Python and PyTorch
included.
Measure a model of your own by tools/benchmark_inference.py.
"""

import argparse
import os

import torch
from benchmark_cases.inference import CHAIN, NOT_AVAILABLE, Workload, silence_hosts
from benchmark_cases.inference_cost import Row, measure, plot_rows
from benchmark_cases.peak_memory import CLEAR_REFS, STATUS
from rich.console import Console
from rich.progress import track
from rich.table import Table

import surge_mm
from surge_mm.analysis.timing import STAT, BackgroundLoad, cpu_name
from surge_mm.deploy import instruction_set
from surge_mm.deploy.onnx.int8_engines import ENGINES, require_engines
from surge_mm.launch.cli import Parser, check_least, run
from surge_mm.launch.output_files import add_json, check_output
from surge_mm.utils.atomic_write import write_json
from surge_mm.utils.errors import LaunchError

RESNET18 = ((64, 56), (128, 28), (256, 14), (512, 7))
INT8_ENGINES = [engine.title for engine in ENGINES.values()]
PIXELS = {'layer': 56, CHAIN: 56, 'backbone': 224, 'detector': 320}


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=list(PIXELS))
    parser.add_argument('--channels', type=int, help="of a layer; default the four of ResNet-18's")
    parser.add_argument('--pixels', type=int, help='height and width of the input')
    parser.add_argument('--depth', type=int, help='depth of the backbone; default 18')
    parser.add_argument('--threads', type=int, nargs='+', default=[1, 2], help='default 1 2')
    parser.add_argument('--rounds', type=int, default=30, help='measured turns; default 30')
    parser.add_argument('--warmup', type=int, default=3, help='turns before them; default 3')
    parser.add_argument(
        '--against',
        nargs='+',
        choices=list(ENGINES),
        default=[],
        metavar='ENGINE',
        help='of a chain or a backbone: other engines to measure too, openvino and onnxruntime '
        '(pip install -r requirements/rivals.txt)',
    )
    parser.add_argument('--plot', metavar='PNG', help='draw the times to this file')
    add_json(parser)
    args = parser.parse_args()
    check(args)
    silence_hosts()
    load = BackgroundLoad()
    rows = []
    for workload in workloads(args):
        rows += measure(workload, args.threads, args.rounds, args.warmup, track, args.against)
    busy, warning = load.cpus(), load.warning(max(args.threads))
    missing = NOT_AVAILABLE.get(args.what, {})
    title = f'{cpu_name()}, {instruction_set()}, torch {torch.__version__}, surge_mm {surge_mm.__version__}'
    print_table(rows, missing, args.threads, title)
    if warning:
        print(warning)
    if args.plot:
        print(plot_rows(rows, args.plot))
    if args.json:
        answer = {
            'title': title,
            'rows': [row.as_dict() for row in rows],
            'not_available': missing,
            'cpus': os.cpu_count(),
            'cpus_busy_elsewhere': busy,
        }
        write_json(args.json, answer)


def workloads(args: argparse.Namespace) -> list[Workload]:
    """Return the workloads that the arguments name."""
    if args.what in ('layer', CHAIN) and args.channels is None and args.pixels is None:
        return [Workload(args.what, size, size, channels) for channels, size in RESNET18]
    pixels = args.pixels or PIXELS[args.what]
    return [Workload(args.what, pixels, pixels, args.channels or 64, args.depth or 18)]


def check(args: argparse.Namespace) -> None:
    """Check the arguments before anything is measured."""
    check_least(args, 1, 'channels', 'pixels', 'rounds', 'threads')
    check_least(args, 0, 'warmup')
    if len(set(args.threads)) < len(args.threads):
        raise LaunchError(f'--threads {" ".join(map(str, args.threads))} names a number twice')
    if args.depth is not None and args.what != 'backbone':
        raise LaunchError(f'--depth is for a backbone, not for a {args.what}')
    if args.depth not in (None, 18, 34, 50):
        raise LaunchError(f'--depth {args.depth} must be 18, 34 or 50')
    if args.what not in ('layer', CHAIN) and args.channels is not None:
        raise LaunchError(f'--channels is for a layer or a chain, not for a {args.what}')
    if args.against and args.what not in (CHAIN, 'backbone'):
        other = 'a chain of layers' if args.what == 'layer' else 'tools/benchmark_inference.py'
        raise LaunchError(f'--against is not for a {args.what}: use {other}')
    require_engines(args.against)
    if args.what not in ('layer', CHAIN) and args.pixels is not None and args.pixels < 32:
        raise LaunchError(f'--pixels {args.pixels} must be at least 32 for a {args.what}')
    check_output(args, 'plot', '.png')
    check_output(args, 'json', '.json')
    if not all(path.exists() for path in (STATUS, CLEAR_REFS, STAT)):
        raise LaunchError('peak memory is read from /proc, which this system lacks: use Linux')


def print_table(rows: list[Row], missing: dict[str, str], threads: list[int], title: str) -> None:
    """Print the rows, and the reason why a variant is missing."""
    table = Table(title=title)
    table.add_column('one image')
    table.add_column('variant')
    for count in threads:
        table.add_column(f'ms, {count} thread{"s" if count > 1 else ""}', justify='right')
        table.add_column('times float', justify='right')
        if any(row.variant in INT8_ENGINES for row in rows):
            table.add_column("times the faster INT8's time", justify='right')
    for column in ('gain of threads', 'file', 'peak memory'):
        table.add_column(column, justify='right')
    faster = {}
    for row in rows:
        cells = []
        for count in threads:
            cells += [f'{row.milliseconds[count]:,.3g}', f'{row.speed[count]:.2f}']
            rivals = [r for r in rows if r.name == row.name and r.variant in INT8_ENGINES]
            if rivals:
                fastest = min(rivals, key=lambda rival: rival.milliseconds[count])
                faster[f'{row.name} ({count})'] = fastest.variant
                cells.append(f'{row.milliseconds[count] / fastest.milliseconds[count]:.2f}')
        gain = row.gain()
        cells.append('' if gain is None else f'{gain:.2f}')
        cells.append('' if row.file_MB is None else f'{row.file_MB:,.2f} MB')
        cells.append('' if row.peak_MB is None else f'{row.peak_MB:,.0f} MB')
        table.add_row(row.name, row.variant, *cells)
    for variant in missing:
        table.add_row(rows[0].name, variant, 'not available')
    console = Console(width=130)
    console.print(table)
    if faster:
        listed = ', '.join(f'{name}: {variant}' for name, variant in faster.items())
        console.print(f'the faster INT8, by number of threads: {listed}')
    for variant, reason in missing.items():
        console.print(f'{variant} is not available: {reason}')


if __name__ == '__main__':
    run(main, 'nothing was written')
