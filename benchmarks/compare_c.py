"""Compare an exported C file with its packed model: maps, boxes or scores, and the metric, image by image.

python benchmarks/compare_c.py CONFIG CHECKPOINT
python benchmarks/compare_c.py CONFIG CHECKPOINT --real int8 --metric
python benchmarks/compare_c.py CONFIG CHECKPOINT --real int8 --target aarch64-linux-musl --emulator qemu-aarch64-static

The images are those of the validation set, and of the training set if the former has too few. The C file is compiled
by the compiler of tools/export.py with -O2. A map is equal if it differs by at most 1e-5 of its largest number; to the
bit is counted apart. Boxes are equal if each box has one of the same class whose coordinates differ by at most 0.01
pixel and whose score differs by at most 1e-4; scores of classes are equal to 1e-4. For each image in which a map
differs, the first binary layer is named whose input has another sign in C, with the distance of that number from the
change of its sign. --metric evaluates both on the whole validation set. With --target, the program of the C file runs
by an emulator, and its boxes alone are compared.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from benchmark_cases.c_model import Library, Probe, detect_emulated, exported
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import DATASETS, init_default_scope
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from rich.progress import track
from torch import Tensor

from surge_mm.analysis.plots import METRICS
from surge_mm.analysis.timing import cpu_name
from surge_mm.checkpoint.checked import load_checked
from surge_mm.datasets.evaluation_set import dataset_meta, evaluation_pipeline, image_size
from surge_mm.deploy import pack
from surge_mm.deploy.onnx.export import outputs_of
from surge_mm.deploy.predict.detector import Detections, Detector
from surge_mm.deploy.predict.image_input import ImageInput
from surge_mm.deploy.predict.predictor import Predictor
from surge_mm.launch.calibration_set import CalibrationSet
from surge_mm.launch.cli import Parser, add_settings, run
from surge_mm.launch.config import load_config
from surge_mm.launch.output_files import add_json, check_output
from surge_mm.launch.runner import build_model
from surge_mm.models.binarization.layer_candidates import base_class_names
from surge_mm.preflight.leaves import find_leaves
from surge_mm.utils.atomic_write import write_json
from surge_mm.utils.errors import LaunchError

OF_MAP, OF_BOX, OF_SCORE = 1e-5, 0.01, 1e-4


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='path of a config file')
    parser.add_argument('checkpoint', help='path of a checkpoint')
    parser.add_argument('--real', choices=('float32', 'int8'), default='float32')
    parser.add_argument('--images', type=int, default=100, help='number of images; default 100')
    parser.add_argument('--metric', action='store_true', help='also evaluate a detector')
    parser.add_argument('--target', help='system and CPU of the C file, with --emulator')
    parser.add_argument('--emulator', help='program that runs those of --target')
    add_json(parser)
    add_settings(parser)
    args = parser.parse_args()
    check_output(args, 'json', '.json')
    if (args.target is None) != (args.emulator is None):
        raise LaunchError('--target and --emulator belong together')
    cfg = load_config(args)
    init_default_scope(cfg.default_scope)
    model = packed(cfg, args)
    is_detector = 'BaseDetector' in base_class_names(model)
    with tempfile.TemporaryDirectory() as folder:
        library = exported(model, Path(folder), None if is_detector else image_size(cfg))
        images = list(track(pictures(cfg, args.images), 'images', total=args.images))
        if args.target:
            detector = Detector(model)
            found = detect_emulated(Path(folder), library.made, args.target, args.emulator, images)
            pairs = [(detector(image), one) for image, one in zip(images, found, strict=True)]
            figures = of_boxes(pairs)
        else:
            figures = compare(model, library, images, is_detector)
        if args.metric:
            figures['metric'] = metrics(cfg, Detector(model), library)
    figures = {'cpu': args.target or cpu_name(), 'real': args.real, **figures}
    for key, value in figures.items():
        print(f'{key}: {value}')
    if args.json:
        write_json(args.json, figures)


def packed(cfg: Config, args: argparse.Namespace) -> Any:
    """Return the packed model of a checkpoint."""
    model: Any = build_model(cfg)
    load_checked(model, args.checkpoint)
    model.cfg = cfg
    model.dataset_meta = dataset_meta(cfg)
    images = CalibrationSet(cfg) if args.real == 'int8' else None
    return pack(model.eval(), args.real, images and track(images, 'calibration'))


def pictures(cfg: Config, count: int) -> Iterator[np.ndarray]:
    """Yield pictures of the data sets, (H, W, 3), uint8, BGR."""
    left = count
    for key in ('val_dataloader', 'train_dataloader'):
        leaf = dict(next(find_leaves('dataset', cfg[key].dataset))[1])
        leaf['pipeline'] = evaluation_pipeline(cfg)
        dataset = DATASETS.build(leaf)
        for index in range(min(left, len(dataset))):
            yield cv2.imread(dataset.get_data_info(index)['img_path'])
        left -= min(left, len(dataset))
    if left:
        raise LaunchError(f'--images {count}: the data sets of the config have {count - left}')


@torch.no_grad()
def compare(
    model: Any, library: Library, images: list[np.ndarray], is_detector: bool
) -> dict[str, Any]:
    """Return the figures of maps, and of boxes or scores."""
    prepare = preparation(model, is_detector)
    worst, probe, flips, differing = [], None, [], []
    for number, image in enumerate(track(images, 'maps')):
        x = prepare(image)
        expected, found = list(outputs_of(model, x).values()), library.maps(x)
        worst.append(max(map(difference, expected, found)))
        if worst[-1] > OF_MAP:
            differing.append((number, x))
    with tempfile.TemporaryDirectory() as folder:
        for number, x in differing:
            probe = probe or Probe(model, Path(folder), largest_of(library))
            flips.append((number, probe.first_flip(x)))
    figures: dict[str, Any] = {
        'images': len(images),
        'maps to the bit': worst.count(0),
        f'maps to {OF_MAP}': sum(w <= OF_MAP for w in worst),
        'largest difference of those': max((w for w in worst if w <= OF_MAP), default=None),
        'other maps': [
            f'image {number}: '
            + (
                'no sign differs'
                if flip is None
                else f'{flip.count} signs of the input of {flip.layer}, {flip.distance:.1e} of its largest number '
                f'from 0, where numbers differ by up to {flip.error:.1e}'
            )
            for number, flip in flips
        ],
    }
    if is_detector:
        detector = Detector(model)
        return figures | of_boxes([(detector(image), library.detect(image)) for image in images])
    predictor = Predictor(model)
    scores = [
        (predictor.predict(image).pred_score.numpy(), library.classify(image)) for image in images
    ]
    found = [float(abs(a - b).max()) for a, b in scores]
    figures |= {
        'scores equal': sum(one <= OF_SCORE for one in found),
        'largest difference': max(found),
    }
    return figures | {'best class equal': sum(int(a.argmax() == b.argmax()) for a, b in scores)}


def largest_of(library: Library) -> tuple[int, int]:
    """Return height and width into which all largest images fit."""
    heights, widths = zip(*library.made.largest, strict=True)
    return max(heights), max(widths)


def preparation(model: Any, is_detector: bool) -> Callable[[np.ndarray], Tensor]:
    """Return the function from a picture to the input of the network, (1, 3, H, W)."""
    if is_detector:
        images = ImageInput(model)
        return lambda picture: images.prepare(picture)[0]
    predictor = Predictor(model)

    def prepare(picture: np.ndarray) -> Tensor:
        found: list[Tensor] = []
        handle = model.backbone.register_forward_pre_hook(lambda _, given: found.append(given[0]))
        predictor.predict(picture)
        handle.remove()
        return found[0]

    return prepare


def difference(expected: Tensor, found: Tensor) -> float:
    """Return the largest difference of two maps, by the largest number."""
    return float((expected.reshape(found.shape) - found).abs().max() / expected.abs().max())


def of_boxes(pairs: list[tuple[Detections, Detections]]) -> dict[str, Any]:
    """Return the figures of the boxes of the packed model and of C."""
    found = [box_differences(*pair) for pair in pairs]
    equal = [one for one in found if one[0] <= OF_BOX and one[1] <= OF_SCORE]
    boxes, scores = (max((one[i] for one in equal), default=None) for i in (0, 1))
    return {
        'boxes': sum(len(expected.scores) for expected, _ in pairs),
        'images with equal boxes': f'{len(equal)} of {len(pairs)}',
        'largest differences of those': f'{boxes} pixel, score {scores}',
        'images with other boxes': [
            f'image {i}: {one[2]} of {len(pairs[i][0].scores)} boxes without an equal one'
            for i, one in enumerate(found)
            if one not in equal
        ],
    }


def box_differences(expected: Detections, found: Detections) -> tuple[float, float, int]:
    """Return the largest differences of coordinates and of scores, and the number of boxes without an equal one."""
    if not len(expected.scores) or not len(found.scores):
        return (
            (0.0, 0.0, 0)
            if len(expected.scores) == len(found.scores)
            else (np.inf, np.inf, len(expected.scores))
        )
    of_boxes = np.abs(expected.boxes[:, None] - found.boxes[None]).max(-1)
    of_scores = np.abs(expected.scores[:, None] - found.scores[None])
    costs = (
        of_boxes + of_scores + np.where(expected.labels[:, None] == found.labels[None], 0, np.inf)
    )
    best = costs.argmin(1)
    rows = np.arange(len(best))
    fits = (of_boxes[rows, best] <= OF_BOX) & (of_scores[rows, best] <= OF_SCORE)
    fits &= np.isfinite(costs[rows, best])
    if fits.all() and len(np.unique(best)) == len(best) == len(found.scores):
        return float(of_boxes[rows, best].max()), float(of_scores[rows, best].max()), 0
    return np.inf, np.inf, int((~fits).sum())


def metrics(cfg: Config, detector: Detector, library: Library) -> dict[str, dict[str, float]]:
    """Return the metrics of the packed model and of C on the whole validation set."""
    found: dict[str, dict[str, float]] = {}
    for name, find in {'packed': detector, 'C': library.detect}.items():
        loader = Runner.build_dataloader(cfg.val_dataloader, seed=0)
        evaluator = Evaluator(cfg.val_evaluator)
        evaluator.dataset_meta = loader.dataset.metainfo
        for batch in track(loader, f'metric of {name}'):
            for sample in batch['data_samples']:
                boxes, scores, labels = map(torch.from_numpy, find(cv2.imread(sample.img_path)))
                sample.pred_instances = InstanceData(bboxes=boxes, scores=scores, labels=labels)
            evaluator.process(data_samples=batch['data_samples'], data_batch=batch)
        all_metrics = evaluator.evaluate(len(loader.dataset))
        found[name] = {key: value for key, value in all_metrics.items() if key in METRICS}
    return found


if __name__ == '__main__':
    run(main, 'nothing was written')
