"""Measure how fast a binary model runs packed, against the same network with real convolutions in PyTorch.

python tools/benchmark_inference.py my_config.py
python tools/benchmark_inference.py my_config.py work_dirs/my_config/epoch_12.pth --shape 320 320
python tools/benchmark_inference.py detector.safetensors --threads 1 4
python tools/benchmark_inference.py sentiment.safetensors --length 128 --threads 1

The network runs on one random image, or text, without its data pipeline; boxes are not decoded. Both variants take
turns on the same machine, and medians are reported. Without a checkpoint, weights are random, on which speed does not
depend.
"""

import signal

if __name__ == '__main__' and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback of the imports, which take seconds

import argparse
import copy
import json
from functools import partial
from pathlib import Path
from statistics import median

import torch
from mmengine.config import Config
from mmengine.runner import load_checkpoint
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

import surge_mm
from surge_mm.analysis.forward import input_name, network_forward, random_input
from surge_mm.analysis.timing import STAT, BackgroundLoad, cpu_name, interleaved_times
from surge_mm.deploy import instruction_set, load_packed, pack
from surge_mm.deploy.packed_file.save_load import SUFFIX
from surge_mm.launch.cli import Parser, add_allow, add_settings, run
from surge_mm.launch.config import load_config
from surge_mm.launch.input_size import add_input_size, check_input_size, input_size
from surge_mm.launch.resume import check_checkpoint, check_fits
from surge_mm.launch.runner import build_model
from surge_mm.layers.memory_format import to_channels_last
from surge_mm.models import to_float
from surge_mm.utils.errors import LaunchError, UsageError, describe_error


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help=f'path of a config file or of a packed model, *{SUFFIX}')
    parser.add_argument('checkpoint', nargs='?', help='path or URL of a checkpoint of the config')
    add_input_size(parser)
    parser.add_argument('--threads', type=int, nargs='+', default=[1, 2], help='default: 1 2')
    parser.add_argument('--rounds', type=int, default=30, help='measured rounds; default: 30')
    parser.add_argument('--warmup', type=int, default=3, help='rounds before them; default: 3')
    parser.add_argument('--json', metavar='FILE', help='also write the figures to this file')
    add_allow(parser)
    add_settings(parser)
    args = parser.parse_args()
    check(args)

    packed, real, cfg = load_models(args)
    size = input_size(args, packed, cfg)
    load = BackgroundLoad() if STAT.exists() else None
    times = measure({'float': real, 'packed': packed}, size, args)
    warning = load.warning(max(args.threads)) if load else ''
    title = f'one {input_name(size)}, {cpu_name()}, {instruction_set()}'
    title += f', torch {torch.__version__}, surge_mm {surge_mm.__version__}'
    print_table(times, title)
    if warning:
        print(warning)
    if args.json:
        shape = {'shape': size} if len(size) == 2 else {'length': size[0]}
        figures = {'title': title, **shape, 'seconds': times}
        Path(args.json).write_text(json.dumps(figures, indent=1) + '\n')


def check(args: argparse.Namespace) -> None:
    """Check the arguments before a model is built."""
    check_input_size(args)
    for name, least in (('rounds', 1), ('warmup', 0)):
        if getattr(args, name) < least:
            raise LaunchError(f'--{name} {getattr(args, name)} must be at least {least}')
    if min(args.threads) < 1 or len(set(args.threads)) < len(args.threads):
        words = ' '.join(map(str, args.threads))
        raise LaunchError(f'--threads {words} must be different numbers of at least 1')
    if args.json and (Path(args.json).is_dir() or not Path(args.json).absolute().parent.is_dir()):
        raise LaunchError(f'--json {args.json!r} must be a file in an existing folder')
    if args.json:
        path, inputs = Path(args.json), [args.config, args.checkpoint or args.config]
        is_input = path.resolve() in [Path(name).resolve() for name in inputs]
        if is_input or (path.is_file() and path.suffix.lower() != '.json'):
            raise LaunchError(
                f'--json {args.json!r} would replace an input, or a file that does not end in .json: name another file'
            )
    if args.config.endswith(SUFFIX):
        for name in ('checkpoint', 'cfg_options'):
            if getattr(args, name):
                raise LaunchError(
                    f'{args.config!r} is a packed model with a config and weights of its own, so it takes no {name}'
                )
    elif args.checkpoint:
        check_checkpoint(args.checkpoint, 'checkpoint')


def load_models(args: argparse.Namespace) -> tuple[nn.Module, nn.Module, Config]:
    """Return the packed model, the same network with real convolutions, and the config of both."""
    if args.config.endswith(SUFFIX):
        packed = load_packed(args.config, allow=args.allow)
        cfg = packed.cfg
        model = build_model(cfg)
    else:
        cfg = load_config(args)
        model = build_model(cfg)
        if args.checkpoint:
            check_fits(model, args.checkpoint)
            load_checkpoint(model, args.checkpoint, map_location='cpu')
        packed = pack(copy.deepcopy(model))
    if isinstance(getattr(model, 'bert', None), surge_mm.SurgeBert):
        # attention and embeddings have binary parts that to_float leaves
        model = build_model(full_precision(cfg))
    real = to_channels_last(to_float(model))
    real.eval()
    return packed, real, cfg


def full_precision(cfg: Config) -> Config:
    """Return the config of a text classifier with the full-precision encoder of the same sizes."""
    cfg = copy.deepcopy(cfg)
    binary = dict.fromkeys(('linear_cfg', 'ffn_activation', 'embedding_weight'))
    cfg.model.backbone.update(binary, attention='real', attention_bits=1)
    return cfg


def measure(
    models: dict[str, nn.Module], size: tuple[int, ...], args: argparse.Namespace
) -> dict[int, dict[str, list[float]]]:
    """Time the models in turn, and return the seconds by number of threads and by model."""
    torch.manual_seed(0)
    given = random_input(models['float'], size)
    if len(size) == 2:
        given = given.to(memory_format=torch.channels_last)
    forwards = {name: network_forward(model, given) for name, model in models.items()}
    times = {}
    for count in track(args.threads, 'threads', console=Console(stderr=True)):
        torch.set_num_threads(count)
        steps = {name: partial(infer, forward) for name, forward in forwards.items()}
        try:
            times[count] = interleaved_times(steps, args.rounds, args.warmup)
        except UsageError:
            raise
        except (RuntimeError, AttributeError, TypeError, ValueError, AssertionError) as error:
            raise LaunchError(
                f'the model does not run on one {input_name(size)}: {describe_error(error)}. Choose another size with '
                '--shape or --length'
            ) from error
    return times


@torch.inference_mode()
def infer(forward):
    """Call ``forward`` without recording gradients."""
    forward()


def print_table(times: dict[int, dict[str, list[float]]], title: str) -> None:
    """Print a row for each number of threads."""
    table = Table(title=title)
    for column in ('threads', 'float, ms', 'packed, ms', 'times as fast'):
        table.add_column(column, justify='right')
    for count, seconds in times.items():
        real, packed = (1e3 * median(seconds[name]) for name in ('float', 'packed'))
        table.add_row(str(count), f'{real:,.3g}', f'{packed:,.3g}', f'{real / packed:.2f}')
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no width
        console = Console(width=140)
    console.print(table)


if __name__ == '__main__':
    run(main, 'nothing was written')
