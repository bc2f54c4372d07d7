"""Show trained detectors on the plane of accuracy and time: binary ones packed, the others in INT8 of other engines.

python benchmarks/accuracy_time.py work_dirs/plane/* --cpu 'no AMX' --out plane.json
python benchmarks/accuracy_time.py work_dirs/plane/* --cpu AVX2 --out plane.json --picture plane.png

Each folder holds the runs of one detector, seed_0, seed_1, ... The last checkpoint of each run is packed with int8
convolutions if it has binary layers, and quantized statically in OpenVINO and in ONNX Runtime if it has none
(requirements/rivals.txt). It is evaluated on the test set of its config. The networks of the first seed then run in
turn on one thread, on one random image, without decoding. --out keeps the accuracies for the next call, with the name
of another CPU, or of one that is imitated.
"""

import argparse
import copy
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from compare_detectors import common_seeds, config_of
from matplotlib.figure import Figure
from mmengine.config import Config
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

from surge_mm.analysis.forward import network_forward
from surge_mm.analysis.plots import BLUE, GREEN, ORANGE, finish, save
from surge_mm.analysis.timing import cpu_name, interleaved_times
from surge_mm.checkpoint.checked import load_checked
from surge_mm.deploy import CapturedNetwork, instruction_set, pack
from surge_mm.deploy.onnx.int8_engines import ENGINES, Int8Engine, require_engines
from surge_mm.launch.calibration_set import CalibrationSet
from surge_mm.launch.cli import Parser, check_least, run
from surge_mm.launch.resume import newest_checkpoint
from surge_mm.launch.runner import build_model
from surge_mm.launch.validation_set import ValidationSet
from surge_mm.layers.binary_layer import BinaryLayer
from surge_mm.layers.memory_format import to_channels_last
from surge_mm.utils.errors import LaunchError

METRICS = {'VOC mAP': 'pascal_voc/mAP', 'COCO mAP': 'coco/bbox_mAP'}
PACKED = 'packed, int8'
MARKERS = [('o', BLUE), ('s', ORANGE), ('^', GREEN)]


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('detectors', nargs='+', help='folders of detectors')
    parser.add_argument('--cpu', required=True, help='name of the CPU in the table')
    parser.add_argument('--out', required=True, help='JSON file, continued if it exists')
    parser.add_argument('--picture', help='PNG file, of all CPUs in --out')
    parser.add_argument('--rounds', type=int, default=60, help='default: 60')
    args = parser.parse_args()
    check_least(args, 1, 'rounds')
    if Path(args.out).is_dir() or not Path(args.out).absolute().parent.is_dir():
        raise LaunchError(f'--out {args.out!r} must be a file in an existing folder')
    require_engines(list(ENGINES))
    folders = [Path(detector) for detector in args.detectors]
    seeds = common_seeds(folders)
    torch.set_num_threads(1)

    out = Path(args.out)
    report = json.loads(out.read_text()) if out.exists() else {'accuracy': {}, 'times': {}}
    steps: dict[str, Callable[[], object]] = {}
    for folder in track(folders, 'detectors', console=Console(stderr=True)):
        evaluated = report['accuracy'].setdefault(folder.name, {})
        for seed in seeds:
            if seed == seeds[0] or seed not in evaluated:
                cfg, model, variants = variants_of(folder / seed)
                if seed not in evaluated:
                    evaluated[seed] = {n: accuracy(cfg, model, v) for n, v in variants.items()}
                    out.write_text(json.dumps(report, indent=1) + '\n')
                if seed == seeds[0]:
                    image = random_image(cfg)
                    steps |= {f'{folder.name}: {n}': step(v, image) for n, v in variants.items()}
    with torch.inference_mode():
        times = interleaved_times(steps, args.rounds, 5, clock=time.process_time)
    report['times'][args.cpu] = {
        'cpu': f'{cpu_name()}, {instruction_set()}',
        'milliseconds': {name: 1e3 * median(seconds) for name, seconds in times.items()},
    }
    out.write_text(json.dumps(report, indent=1) + '\n')
    show(report)
    if args.picture:
        print(f'wrote {draw(report, args.picture)}')


def variants_of(folder: Path) -> tuple[Config, nn.Module, dict[str, Any]]:
    """Return the config of a run, its detector, and the detector packed or as an :class:`Int8Engine` of each engine."""
    cfg = Config.fromfile(config_of(folder))
    checkpoint = newest_checkpoint(folder)
    if checkpoint is None:
        raise LaunchError(f'{str(folder)!r} has no checkpoint: is its run finished?')
    model = to_channels_last(build_model(cfg)).eval()
    load_checked(model, str(checkpoint))
    batches = CalibrationSet(cfg)
    if any(isinstance(module, BinaryLayer) for module in model.modules()):
        return cfg, model, {PACKED: pack(copy.deepcopy(model), 'int8', batches)}
    with torch.no_grad():
        images = [model.data_preprocessor(batch)['inputs'] for batch in batches]
    return cfg, model, {engine.title: engine(model, images) for engine in ENGINES.values()}


def accuracy(cfg: Config, model: nn.Module, variant: Any) -> dict[str, float]:
    """Return the metrics of a variant of a detector on the test set."""
    if isinstance(variant, Int8Engine):
        variant = variant.in_place_of(model)
    found = ValidationSet(cfg, 'test').evaluate(variant)
    return {name: found[key] for name, key in METRICS.items()}


def random_image(cfg: Config) -> torch.Tensor:
    """Return an image of the size to which the test pipeline resizes, (1, 3, H, W)."""
    pipeline = cfg.test_dataloader.dataset.pipeline
    width, height = next(step['scale'] for step in pipeline if step['type'] == 'Resize')
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, height, width, generator=generator)
    return image.to(memory_format=torch.channels_last)


def step(variant: Any, image: torch.Tensor) -> Callable[[], object]:
    """Return a function without arguments that runs the network on the image."""
    if isinstance(variant, Int8Engine):
        return variant.prepare(image)
    network = CapturedNetwork(variant, lambda images: network_forward(variant, images)())
    return partial(network, image)


def points(report: dict, cpu: str, metric: str) -> dict[str, tuple[float, float, list[float]]]:
    """Return milliseconds, mean accuracy and that of each seed, by the name of the network."""
    found = {}
    for name, milliseconds in report['times'][cpu]['milliseconds'].items():
        detector, _, variant = name.partition(': ')
        values = [seed[variant][metric] for seed in report['accuracy'][detector].values()]
        found[name] = milliseconds, mean(values), values
    return found


def show(report: dict) -> None:
    """Print a table for each CPU."""
    for cpu, times in report['times'].items():
        table = Table(title=f'{cpu}: {times["cpu"]}')
        for column in ('network', 'ms', *METRICS):
            table.add_column(column, justify='left' if column == 'network' else 'right')
        for name, (milliseconds, *_) in points(report, cpu, 'VOC mAP').items():
            cells = []
            for metric in METRICS:
                _, average, values = points(report, cpu, metric)[name]
                cells.append(f'{average:.3f} ({" ".join(f"{value:.3f}" for value in values)})')
            table.add_row(name, f'{milliseconds:.2f}', *cells)
        Console(width=140).print(table)


def draw(report: dict, out: str) -> Path:
    """Draw the networks of each CPU, time against VOC mAP with the range of the seeds, and return the PNG.

    The name of a detector stands at the left of its fastest network.
    """
    count = len(report['times'])
    figure = Figure(figsize=(5 * count, 4), layout='constrained')
    looks = dict(zip((PACKED, *(e.title for e in ENGINES.values())), MARKERS, strict=True))
    for axes, cpu in zip(figure.subplots(1, count, squeeze=False)[0], report['times'], strict=True):
        named = set()
        fastest_first = sorted(points(report, cpu, 'VOC mAP').items(), key=lambda point: point[1])
        for name, (milliseconds, average, values) in fastest_first:
            detector, _, variant = name.partition(': ')
            marker, color = looks[variant]
            below_above = [[average - min(values)], [max(values) - average]]
            labels = axes.get_legend_handles_labels()[1]
            axes.errorbar(
                milliseconds,
                average,
                below_above,
                marker=marker,
                color=color,
                capsize=2,
                linestyle='none',
                label=None if variant in labels else variant,
            )
            if detector not in named:
                at, left = (milliseconds, average), (-6, 4)
                axes.annotate(
                    detector, at, left, textcoords='offset points', ha='right', fontsize=8
                )
                named.add(detector)
        axes.set(xlabel='CPU time of one image, ms', ylabel='VOC mAP', title=cpu)
        axes.set_xlim(left=0)
        axes.margins(x=0.15)
        finish(axes)
    return save(figure, out)


if __name__ == '__main__':
    run(main, 'nothing was written')
