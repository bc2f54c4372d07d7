"""Measure how fast a binary model runs packed, against the same network with real convolutions in PyTorch.

python tools/benchmark_inference.py my_config.py
python tools/benchmark_inference.py my_config.py work_dirs/my_config/epoch_12.pth --shape 320 320
python tools/benchmark_inference.py detector.safetensors --threads 1 4
python tools/benchmark_inference.py sentiment.safetensors --length 128 --threads 1
python tools/benchmark_inference.py my_config.py --real int8 --against openvino onnxruntime
python tools/benchmark_inference.py my_config.py my.pth --against openvino --full-precision float_config.py float.pth
python tools/benchmark_inference.py my_config.py my.pth --full-precision float_config.py float.pth --image image.jpg

The network runs on one random image, or text, without its data pipeline; boxes are not decoded. A packed network of
images runs as surge_mm.deploy.Detector runs it, by its operations without the modules. The variants take
turns on the same machine, and medians are reported, of the time of the clock and of the CPU time of all threads. With
one thread, the ratios are those of CPU times, on which the load of other programs has less influence. Without a
checkpoint, weights are random, on which speed does not depend.

--image measures a detector from an image in memory to its boxes instead, each variant with the pre-processing, decoding
and non-maximum suppression of surge_mm.deploy.Detector. Their time depends on the number of candidates, and so on the
weights: it needs a checkpoint, and --full-precision for float and INT8.

--against adds the network with real convolutions in INT8, quantized statically in OpenVINO (by NNCF) or ONNX Runtime.
They are calibrated on images of the config, or on noise if its data are not there. --full-precision names the same
network trained in full precision: then float and INT8 are measured with its weights, and with --against, the metric
of each variant is measured on the validation set of the config.
"""

import argparse
import copy
import time
from collections.abc import Callable, Iterable
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

import surge_mm
from surge_mm.analysis.forward import input_name, network_forward, random_input
from surge_mm.analysis.plots import METRICS
from surge_mm.analysis.tables import wide_console
from surge_mm.analysis.timing import STAT, BackgroundLoad, cpu_name, interleaved_times
from surge_mm.checkpoint.checked import load_checked
from surge_mm.deploy import CapturedNetwork, Detector, instruction_set, load_packed, pack
from surge_mm.deploy.onnx.int8_engines import ENGINES, Int8Engine, require_engines
from surge_mm.deploy.packed_file.save_load import SUFFIX
from surge_mm.deploy.real_layers.convert import FLOAT32, REAL
from surge_mm.launch.calibration_set import DEFAULT_COUNT, CalibrationSet
from surge_mm.launch.cli import (
    Parser,
    add_allow,
    add_settings,
    check_least,
    check_packed_alone,
    run,
)
from surge_mm.launch.config import load_config
from surge_mm.launch.input_size import (
    add_input_size,
    check_input_size,
    input_size,
    read_image,
)
from surge_mm.launch.output_files import add_json, check_output
from surge_mm.launch.resume import check_checkpoint
from surge_mm.launch.runner import build_model
from surge_mm.launch.validation_set import ValidationSet
from surge_mm.layers.memory_format import to_channels_last
from surge_mm.models import to_float
from surge_mm.utils.atomic_write import write_json
from surge_mm.utils.errors import LaunchError, UsageError, describe_error


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help=f'path of a config file or of a packed model, *{SUFFIX}')
    parser.add_argument('checkpoint', nargs='?', help='path or URL of a checkpoint of the config')
    add_input_size(parser)
    parser.add_argument(
        '--image',
        metavar='FILE',
        help='of a detector: measure from this image in memory to the boxes',
    )
    parser.add_argument('--threads', type=int, nargs='+', default=[1, 2], help='default: 1 2')
    parser.add_argument('--rounds', type=int, default=30, help='measured rounds; default: 30')
    parser.add_argument('--warmup', type=int, default=3, help='rounds before them; default: 3')
    parser.add_argument(
        '--real',
        choices=REAL,
        default=FLOAT32,
        help='dtype of the real-valued convolutions of the packed model; default float32',
    )
    parser.add_argument(
        '--against',
        nargs='+',
        choices=list(ENGINES),
        default=[],
        metavar='ENGINE',
        help='also measure the network with real convolutions in INT8 in these engines: openvino, onnxruntime '
        '(pip install -r requirements/rivals.txt)',
    )
    parser.add_argument(
        '--images',
        type=int,
        metavar='N',
        help=f'for --real int8 and --against: number of images for calibration; default {DEFAULT_COUNT}',
    )
    parser.add_argument(
        '--full-precision',
        nargs=2,
        metavar=('CONFIG', 'CHECKPOINT'),
        help='the same network trained in full precision, whose weights float and INT8 get',
    )
    parser.add_argument(
        '--no-metric', action='store_true', help='for --against: do not measure the metric'
    )
    add_json(parser)
    add_allow(parser)
    add_settings(parser)
    args = parser.parse_args()
    check(args)

    image = read_image(args.image) if args.image else None
    models, cfg, size, source = load_models(args, image)
    load = BackgroundLoad() if STAT.exists() else None
    times = measure(models, size if image is None else image, args)
    warning = load.warning(max(args.threads)) if load else ''
    what = f'boxes of {args.image}' if args.image else f'one {input_name(size)}'
    title = f'{what}, {cpu_name()}, {instruction_set()}'
    title += f', torch {torch.__version__} {torch.backends.cpu.get_cpu_capability()}'
    title += f', surge_mm {surge_mm.__version__}, real layers in {args.real}'
    print_table(times, title)
    if source:
        print(f'int8 is calibrated on {source}')
    if warning:
        print(warning)
    metrics = metrics_of(models, cfg, args) if args.against else {}
    if args.json:
        shape = {'shape': size} if len(size) == 2 else {'length': size[0]}
        wall, cpu = ({n: own[i] for n, own in times.items()} for i in (0, 1))
        figures = {
            'title': title,
            **shape,
            'image': args.image,
            'seconds': wall,
            'cpu_seconds': cpu,
            'calibration': source,
            'metrics': metrics,
        }
        write_json(args.json, figures)


def check(args: argparse.Namespace) -> None:
    """Check the arguments before a model is built."""
    require_engines(args.against)
    check_input_size(args)
    if args.image and (args.shape or args.length is not None):
        raise LaunchError('--shape and --length are for noise, without --image')
    if args.image and not (args.checkpoint and args.full_precision):
        raise LaunchError(
            '--image needs trained weights, on which the number of boxes depends: CONFIG CHECKPOINT --full-precision '
            'CONFIG CHECKPOINT'
        )
    check_least(args, 1, 'rounds', 'images')
    check_least(args, 0, 'warmup')
    if min(args.threads) < 1 or len(set(args.threads)) < len(args.threads):
        words = ' '.join(map(str, args.threads))
        raise LaunchError(f'--threads {words} must be different numbers of at least 1')
    check_output(args, 'json', '.json')
    if args.config.endswith(SUFFIX):
        check_packed_alone(args, ('checkpoint', 'cfg_options', 'full_precision'))
    elif args.checkpoint:
        check_checkpoint(args.checkpoint, 'checkpoint')
    if len(set(args.against)) < len(args.against):
        raise LaunchError(f'--against {" ".join(args.against)} names an engine twice')
    if args.no_metric and not args.against:
        raise LaunchError('--no-metric is for --against, which is not given')
    if args.full_precision:
        check_checkpoint(args.full_precision[1], '--full-precision')
    if args.images is not None and not args.against and args.real != 'int8':
        raise LaunchError('--images is for --against and --real int8')


def load_models(
    args: argparse.Namespace, image: np.ndarray | None = None
) -> tuple[dict[str, Any], Config, tuple[int, ...], str]:
    """Return the models by name, their config, the size of the input and the images of the calibration, if any.

    The models are the network with real convolutions, ``float``; ``packed``; and an :class:`Int8Engine` for each
    engine. ``image`` is that of ``--image``.
    """
    if args.config.endswith(SUFFIX):
        packed = load_packed(args.config, allow=args.allow)
        cfg = packed.cfg
        model = build_model(cfg)
    else:
        cfg = load_config(args)
        model = build_model(cfg)
        if args.checkpoint:
            load_checked(model, args.checkpoint)
    model.cfg = cfg
    if image is not None:
        Detector(copy.deepcopy(model))  # an error, before the calibration, if it is no detector
        size: tuple[int, ...] = image.shape[:2]
    else:
        # a packed file has the length of its texts
        size = input_size(args, packed if args.config.endswith(SUFFIX) else model, cfg)
    images, source = calibration_images(args, model, cfg, size)
    if not args.config.endswith(SUFFIX):
        batches = track(images, 'calibration') if args.real == 'int8' else None
        packed = pack(copy.deepcopy(model), args.real, batches)
    real = real_model(model, cfg, args)
    models: dict[str, Any] = {'float': real, 'packed': packed}
    if args.against:
        with torch.no_grad():
            tensors = [as_tensor(image, real) for image in images]
        for name in args.against:
            models[ENGINES[name].title] = ENGINES[name](real, tensors)
    return models, cfg, size, source


def real_model(model: nn.Module, cfg: Config, args: argparse.Namespace) -> nn.Module:
    """Return the network with real convolutions."""
    if args.full_precision:
        settings = {**vars(args), 'config': args.full_precision[0], 'cfg_options': None}
        cfg = load_config(argparse.Namespace(**settings))
        model = build_model(cfg)
        model.cfg = cfg
        load_checked(model, args.full_precision[1])
        # to_float would also replace the activations, with which it was trained
        return to_channels_last(model).eval()
    if isinstance(getattr(model, 'bert', None), surge_mm.SurgeBert):
        # attention and embeddings have binary parts that to_float leaves
        model = build_model(full_precision(cfg))
    return to_channels_last(to_float(model)).eval()


def calibration_images(
    args: argparse.Namespace, model: nn.Module, cfg: Config, size: tuple[int, ...]
) -> tuple[Any, str]:
    """Return images, or batches of one image, and where they are from; nothing if no variant is calibrated."""
    if not args.against and args.real != 'int8':
        return [], ''
    if len(size) == 1:
        raise LaunchError(
            f'--against and --real int8 are for models of images, and {type(model).__name__} takes texts'
        )
    try:
        images = CalibrationSet(cfg, args.images)
    except LaunchError:
        if args.images is not None or args.image:
            raise
        torch.manual_seed(0)
        noise = [random_input(model, size) for _ in range(4)]
        return noise, 'noise, since no data set of the config is there'
    return images, f'{len(images)} images of {images.source}'


def as_tensor(batch: Any, model: Any) -> torch.Tensor:
    """Return the normalized image, (1, 3, H, W), of a batch of a data loader, or the image itself."""
    return batch if torch.is_tensor(batch) else model.data_preprocessor(batch)['inputs']


def full_precision(cfg: Config) -> Config:
    """Return the config of a text classifier with the full-precision encoder of the same sizes."""
    cfg = copy.deepcopy(cfg)
    binary = dict.fromkeys(('linear_cfg', 'ffn_activation', 'embedding_weight'))
    cfg.model.backbone.update(binary, attention='real', attention_bits=1)
    return cfg


Times = dict[str, list[float]]
"""Seconds of each round, by model."""


def measure(
    models: dict[str, Any], given: tuple[int, ...] | np.ndarray, args: argparse.Namespace
) -> dict[int, tuple[Times, Times]]:
    """Time the models in turn, and return for each number of threads the times of the clock and the CPU times.

    ``given`` is the size of the random input of the networks, or an image whose boxes are found.
    """
    if isinstance(given, np.ndarray):
        forwards = {name: partial(detector_of(models, name), given) for name in models}
    else:
        torch.manual_seed(0)
        noise = random_input(models['float'], given)
        if len(given) == 2:
            noise = noise.to(memory_format=torch.channels_last)
        forwards = {name: forward_of(name, model, noise) for name, model in models.items()}
    times = {}
    for count in track(args.threads, 'threads', console=Console(stderr=True)):
        torch.set_num_threads(count)
        cpu: Times = {name: [] for name in models}
        steps = {name: partial(infer, run, cpu[name]) for name, run in forwards.items()}
        try:
            # for a number of threads, engines compile at the first call, and a packed network is captured at the second
            wall = interleaved_times(steps, args.rounds, args.warmup + 2)
        except UsageError:
            raise
        except (RuntimeError, AttributeError, TypeError, ValueError, AssertionError) as error:
            raise LaunchError(
                f'the model does not run on this input: {describe_error(error)}. Choose another one with --shape, '
                '--length or --image'
            ) from error
        times[count] = (wall, {name: seconds[-args.rounds :] for name, seconds in cpu.items()})
    return times


def forward_of(name: str, model: Any, given: Any) -> Callable[[], object]:
    """Return a function without arguments that runs a variant on an image or a text."""
    if isinstance(model, Int8Engine):
        return model.prepare(given)
    if name == 'packed' and torch.is_tensor(given):
        network = CapturedNetwork(model, lambda images: network_forward(model, images)())
        return partial(network, given)
    return network_forward(model, given)


def detector_of(models: dict[str, Any], name: str) -> Detector:
    """Return a variant with the pre-processing and the decoding of :class:`surge_mm.deploy.Detector`."""
    model = models[name]
    if isinstance(model, Int8Engine):
        model = model.in_place_of(models['float'], one_size=True)
    return Detector(model)


@torch.inference_mode()
def infer(forward: Callable[[], object], seconds: list[float]) -> None:
    """Call ``forward`` without recording gradients, and append its CPU time to ``seconds``."""
    start = time.process_time()
    forward()
    seconds.append(time.process_time() - start)


def print_table(times: dict[int, tuple[Times, Times]], title: str) -> None:
    """Print a row for each number of threads and each model."""
    table = Table(title=title)
    engines = [engine.title for engine in ENGINES.values() if engine.title in times[min(times)][0]]
    columns = ['threads', 'variant', 'ms', 'CPU, ms', 'times as fast as float']
    if engines:
        columns.append("times the faster INT8's time")
    for column in columns:
        table.add_column(column, justify='left' if column == 'variant' else 'right')
    for count, (wall, cpu) in times.items():
        compared = {name: median(own) for name, own in (cpu if count == 1 else wall).items()}
        for name, own in compared.items():
            cells = [f'{1e3 * median(seconds[name]):,.3g}' for seconds in (wall, cpu)]
            cells.append(f'{compared["float"] / own:.2f}')
            if engines:
                cells.append(f'{own / min(compared[engine] for engine in engines):.2f}')
            table.add_row(str(count), name, *cells)
    wide_console().print(table)


def metrics_of(
    models: dict[str, Any], cfg: Config, args: argparse.Namespace
) -> dict[str, dict[str, float]]:
    """Return the metrics of each variant on the validation set, print the first, or print why they are not measured."""
    try:
        check_metric(models['float'], args)
        validation = ValidationSet(cfg)
    except LaunchError as error:
        print(f'metric: not measured, {error}')
        return {}
    found = {}
    for name, model in track(list(models.items()), 'evaluation'):
        if name == 'packed' and not args.checkpoint:
            continue
        if isinstance(model, Int8Engine):
            model = model.in_place_of(models['float'])
        found[name] = validation.evaluate(model)
    names: Iterable[str] = found['float']
    first = next((name for name in METRICS if name in found['float']), next(iter(names)))
    for name, metrics in found.items():
        print(f'{first} of {name}: {metrics[first]:.4f}')
    print(f'on the {len(validation)} images of the validation set')
    return found


def check_metric(model: nn.Module, args: argparse.Namespace) -> None:
    """Raise an error that says why the metrics of INT8 cannot be measured."""
    if args.no_metric:
        raise LaunchError('--no-metric is given')
    if not args.full_precision:
        raise LaunchError(
            'which needs the network trained in full precision: --full-precision CONFIG CHECKPOINT'
        )
    if not hasattr(model, 'bbox_head') and not hasattr(model, 'head'):
        raise LaunchError(f'{type(model).__name__} has no head whose outputs could be replaced')


if __name__ == '__main__':
    run(main, 'nothing was written')
