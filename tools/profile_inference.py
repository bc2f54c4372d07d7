"""Measure where the time of one image goes, from the image in memory to the boxes.

python tools/profile_inference.py detector.safetensors --image image.jpg --picture profile.png
python tools/profile_inference.py my_config.py work_dirs/my_config/epoch_12.pth --shape 480 640
python tools/profile_inference.py my_config.py --real int8
python tools/profile_inference.py my_config.py --float
python tools/profile_inference.py detector.safetensors --host --json profile.json

The model of a config is packed if it has binary layers, with real-valued convolutions in the dtype of --real; int8 is
calibrated on noise, on which speed does not depend. A detector runs by surge_mm.deploy.Detector; with --host, and
a classifier or segmentor always, the pipeline and the data samples of the host are used. Reading of the file is not
part of the time. The parts add up to the whole: what no timer covers is "rest". Timers need the modules of the network,
while Detector runs the operations without them, so its time is printed beside. With one thread the time is that of
the CPU, on which the load of other programs has less influence; with more threads it is that of the clock.

Without --image, the image is noise of the size of the test pipeline. The number of boxes above the threshold of the
config depends on image and weights, and with it the time of decoding.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from rich.table import Table
from torch import nn

import surge_mm  # prepares the stack before the hosts are imported
from surge_mm.analysis.forward import random_input
from surge_mm.analysis.plots import draw_time_profile
from surge_mm.analysis.tables import wide_console
from surge_mm.analysis.time_profile import (
    BINARY,
    DECODING,
    NETWORK,
    NMS,
    OTHER,
    PARTS,
    PIPELINE,
    PREPROCESSING,
    Region,
    TimeProfile,
    profile_time,
    regions_of,
)
from surge_mm.analysis.timing import cpu_name
from surge_mm.checkpoint.checked import load_checked
from surge_mm.datasets.evaluation_set import dataset_meta, image_size
from surge_mm.deploy import Detector, instruction_set, load_packed, pack
from surge_mm.deploy.packed_file.save_load import SUFFIX
from surge_mm.deploy.predict.predictor import Predictor
from surge_mm.deploy.real_layers.convert import FLOAT32, REAL
from surge_mm.launch.cli import (
    Parser,
    add_allow,
    add_settings,
    add_shape,
    check_least,
    check_packed_alone,
    run,
)
from surge_mm.launch.config import load_config
from surge_mm.launch.input_size import read_image
from surge_mm.launch.output_files import add_json, check_output
from surge_mm.launch.resume import check_checkpoint
from surge_mm.launch.runner import build_model
from surge_mm.layers import BinaryLayer
from surge_mm.layers.memory_format import to_channels_last
from surge_mm.models import to_float
from surge_mm.models.binarization.layer_candidates import base_class_names
from surge_mm.utils.atomic_write import write_json
from surge_mm.utils.errors import LaunchError, describe_error
from surge_mm.utils.modules import takes_texts


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help=f'path of a config file or of a packed model, *{SUFFIX}')
    parser.add_argument('checkpoint', nargs='?', help='path or URL of a checkpoint of the config')
    parser.add_argument('--image', metavar='FILE', help='image to run on; default: noise')
    add_shape(parser)
    parser.add_argument(
        '--float', action='store_true', help='of a config: the same network in full precision'
    )
    parser.add_argument(
        '--real',
        choices=REAL,
        default=FLOAT32,
        help='of a config: dtype of the real-valued convolutions of the packed model; default float32',
    )
    parser.add_argument(
        '--host', action='store_true', help='with the pipeline and the data samples of the host'
    )
    parser.add_argument('--threads', type=int, default=1, help='default: 1')
    parser.add_argument('--rounds', type=int, default=100, help='measured rounds; default: 100')
    parser.add_argument('--warmup', type=int, default=10, help='rounds before them; default: 10')
    add_json(parser)
    parser.add_argument('--picture', metavar='FILE', help='also draw them, as PNG')
    add_allow(parser)
    add_settings(parser)
    args = parser.parse_args()
    check(args)
    torch.set_num_threads(args.threads)
    model, binary = load_model(args)
    image = load_image(args, model)
    function, regions = image_function(args, model, image)
    regions += regions_of(model, binary)
    clock = time.process_time if args.threads == 1 else time.perf_counter
    beside = {}
    if 'BaseDetector' in base_class_names(model):
        from mmdet.apis import inference_detector

        beside['inference_detector'] = partial(inference_detector, model, image)
        beside['Detector'] = partial(Detector(model), image)
    try:
        found = profile_time(function, regions, args.rounds, args.warmup, clock, beside)
    except (RuntimeError, AttributeError, TypeError, ValueError, AssertionError) as error:
        raise LaunchError(
            f'the model does not run on an image of {image.shape[0]} x {image.shape[1]}: {describe_error(error)}. '
            'Choose another one with --image or --shape'
        ) from error
    title = f'one image of {image.shape[0]} x {image.shape[1]}, {args.threads} thread'
    title += f'{"s" if args.threads > 1 else ""}, {cpu_name()}, {instruction_set()}'
    title += f', torch {torch.__version__}, surge_mm {surge_mm.__version__}'
    print_table(found, title)
    if args.json:
        figures = {
            'title': title,
            'whole': found.total,
            'whole without timers': found.without_timers,
            **found.beside,
            'parts': {part: found.part(part) for part in PARTS},
        }
        write_json(args.json, figures)
    if args.picture:
        draw_time_profile({part: found.part(part) for part in PARTS}, title, args.picture)


def check(args: argparse.Namespace) -> None:
    """Check the arguments before a model is built."""
    check_least(args, 1, 'rounds', 'threads', 'shape')
    check_least(args, 0, 'warmup')
    if args.shape and args.image:
        raise LaunchError('--shape is for noise, without --image')
    check_output(args, 'json', '.json')
    check_output(args, 'picture', '.png', [args.image] if args.image else [])
    if args.config.endswith(SUFFIX):
        check_packed_alone(args, ('checkpoint', 'cfg_options', 'float'))
    elif args.checkpoint:
        check_checkpoint(args.checkpoint, 'checkpoint')


def load_model(args: argparse.Namespace) -> tuple[nn.Module, set[str]]:
    """Return the model, and the names of the binary layers that it had before it was made real."""
    if args.config.endswith(SUFFIX):
        model = load_packed(args.config, allow=args.allow)
        check_images(model)
        return model, set()
    cfg = load_config(args)
    model = build_model(cfg)
    check_images(model)
    if args.checkpoint:
        load_checked(model, args.checkpoint)
    binary = {name for name, module in model.named_modules() if isinstance(module, BinaryLayer)}
    if binary and not args.float:
        noise = None
        if args.real == 'int8':
            noise = [random_input(model, args.shape or image_size(cfg)) for _ in range(4)]
        model = pack(model, args.real, noise)
    elif args.float:
        model = to_channels_last(to_float(model))
    model.cfg, model.dataset_meta = cfg, dataset_meta(cfg)
    return model.eval(), binary if args.float else set()


def check_images(model: nn.Module) -> None:
    if takes_texts(model):
        raise LaunchError(
            f'{type(model).__name__} takes texts, and the time is that of an image. Use tools/benchmark_inference.py, '
            'which also runs texts'
        )


def load_image(args: argparse.Namespace, model: nn.Module) -> np.ndarray:
    """Return the image to run on, (H, W, 3), uint8, BGR."""
    if args.image:
        return read_image(args.image)
    size = tuple(args.shape or image_size(model.cfg))
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)


def image_function(
    args: argparse.Namespace, model: nn.Module, image: np.ndarray
) -> tuple[Callable[[], object], list[Region]]:
    """Return a function that runs the model on the image, and the regions around the network."""
    if args.host or 'BaseDetector' not in base_class_names(model):
        predictor = Predictor(model)
        predictor.detector = None
        regions = [Region(predictor, 'pipeline', PIPELINE)]
        return partial(predictor.predict, image), regions
    detector = Detector(model)
    detector.network = detector.network.forward  # by its modules, which have the timers
    around = detector.image_input
    if not around.is_plain:
        return partial(detector, image), [Region(around, 'batch', PIPELINE)]
    regions = [Region(around, 'prepare', PREPROCESSING)]
    regions += [Region(step, 'transform', PIPELINE, type(step).__name__) for step in around.sizes]
    if detector.decoder:
        regions += [
            Region(detector.decoder, 'decode', DECODING),
            Region(detector.decoder, 'suppress', NMS),
        ]
    return partial(detector, image), regions


def print_table(found: TimeProfile, title: str) -> None:
    """Print a row for each part, and for each layer within it but binary ones, whose number is given."""
    table = Table(title=title)
    table.add_column('part')
    table.add_column('ms', justify='right')
    table.add_column('share', justify='right')
    for part in PARTS:
        inner = found.part(part)
        seconds = sum(inner.values())
        if not inner:
            continue
        name = f'{part} ({len(inner)})' if part == 'binary layers' else part
        table.add_row(name, f'{1e3 * seconds:.3f}', f'{seconds / found.total:.1%}', style='bold')
        if len(inner) > 1 and part != 'binary layers':
            for layer, value in inner.items():
                table.add_row(f'  {layer or "itself"}', f'{1e3 * value:.3f}', '')
    table.add_section()
    table.add_row('whole', f'{1e3 * found.total:.3f}', '100.0%', style='bold')
    console = wide_console()
    console.print(table)
    overhead = found.total / found.without_timers - 1
    network = {part: sum(found.part(part).values()) for part in NETWORK}
    whole = sum(network.values())
    console.print(
        f'{1e3 * whole:.3f} ms in the network, {1 - (network[BINARY] + network[OTHER]) / whole:.1%} of it real-valued: '
        'stem, real layers, norms and activations'
    )
    console.print(
        f'{1e3 * found.without_timers:.3f} ms without timers (median), so the timers add {overhead:+.1%}'
    )
    for name, seconds in found.beside.items():
        console.print(f'{1e3 * seconds:.3f} ms by {name} in the same run')


if __name__ == '__main__':
    run(main, 'nothing was written')
