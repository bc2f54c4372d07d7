"""Train, evaluate, pack and draw a 1-bit detector of handwritten digits; `make demo` runs this.

Writes data/digits and work_dirs/demo below the current folder. After an interruption, the same command continues.
"""

import copy
import functools
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.fileio import load
from rich.console import Console
from rich.table import Table
from torch import nn

import surge_mm  # noqa: F401  prepares the stack before the hosts are imported
from surge_mm.analysis.complexity import model_complexity, model_size
from surge_mm.analysis.plots import Boxes, draw_detections, plot_training
from surge_mm.analysis.scalars import read_scalars
from surge_mm.analysis.timing import interleaved_times
from surge_mm.datasets.digits import make_digits
from surge_mm.deploy import Detector, instruction_set, load_packed, pack
from surge_mm.launch.calibration_set import CalibrationSet
from surge_mm.launch.cli import Parser, add_settings_of_train, run
from surge_mm.launch.trainings import remember_settings
from surge_mm.layers import BinaryLayer
from surge_mm.models import to_float
from surge_mm.utils.errors import LaunchError

TOOLS = Path(__file__).resolve().parent
CONFIG = TOOLS.parent / 'configs' / 'demo' / 'ste_fcos-1bit_r18-light_10e_digits.py'
FULL_PRECISION = 'fcos_r18-light_10e_digits'


def main() -> None:
    parser = Parser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--config', default=str(CONFIG), help='another config of configs/demo')
    parser.add_argument(
        '--work-dir', help='default: work_dirs/demo, for another config work_dirs/demo_NAME'
    )
    parser.add_argument(
        '--pictures', type=int, default=6, help='number of val images to draw; default: 6'
    )
    add_settings_of_train(parser)
    args = parser.parse_args()
    start = time.time()
    name = Path(args.config).stem
    default = 'work_dirs/demo' if name == CONFIG.stem else f'work_dirs/demo_{name}'
    work_dir = Path(args.work_dir or default)
    if not 1 <= args.pictures <= 200:
        raise LaunchError(f'--pictures {args.pictures} must be 1 to 200, the number of val images')
    if not Path(args.config).is_file():
        raise LaunchError(
            f'--config {args.config!r}: there is no such file (looked from {Path.cwd()})'
        )
    remember_settings(work_dir / 'demo.json', [name, *args.cfg_options])

    try:
        data = make_digits('data/digits')
    except (FileExistsError, ModuleNotFoundError) as error:
        raise LaunchError(str(error)) from error
    command = [sys.executable, str(TOOLS / 'train.py'), args.config, '--work-dir', str(work_dir)]
    command.append('--resume')
    if args.cfg_options:
        command += ['--cfg-options', *args.cfg_options]
    trained = subprocess.run(command)
    if trained.returncode:
        sys.exit(trained.returncode)

    logs = sorted(work_dir.glob('*/vis_data/scalars.json'))
    curves = plot_training(logs, work_dir / 'curves.png')
    checkpoint = Path((work_dir / 'last_checkpoint').read_text().strip())
    config, file = work_dir / Path(args.config).name, None
    models = {'trained': trained_detector(config, checkpoint)}
    if is_binary(models['trained']):
        file = work_dir / 'detector.safetensors'
        pack_detector(config, checkpoint, file)
        models['packed'] = load_packed(file)
    images = val_images(models['trained'].cfg, args.pictures)
    found, equal = detections(models, images)
    classes = models['trained'].dataset_meta['classes']
    drawn, truth = [image.rgb for image in images], [image.truth for image in images]
    pictures = draw_detections(drawn, truth, found, classes, work_dir / 'detections.png')
    rows = results(logs, data, models['trained'], time.time() - start)
    if file is not None:
        rows['full precision'] = documented_loss(name)
        rows |= packed_results(models, config, file, images, equal)
    table = Table(title='1-bit detector of handwritten digits', show_header=False)
    for row in rows.items():
        table.add_row(*row)
    Console(width=100).print(table)
    print(f'checkpoint  {checkpoint}')
    if file is not None:
        print(f'packed      {file}')
    print(f'pictures    {pictures}\n            {curves}')


class ValImage(NamedTuple):
    """An image of the val set.

    Attributes:
        bgr (np.ndarray): the image as detectors take it, uint8, shape (H, W, 3).
        rgb (np.ndarray): the image as it is drawn.
        truth (Boxes): the objects in it.
    """

    bgr: np.ndarray
    rgb: np.ndarray
    truth: Boxes


def trained_detector(config: Path, checkpoint: Path) -> nn.Module:
    """Load the trained detector."""
    from mmdet.apis import init_detector

    detector = init_detector(str(config), str(checkpoint), device='cpu')
    # the memory format of a packed detector, so that real convolutions round alike
    return detector.to(memory_format=torch.channels_last)


def is_binary(model: nn.Module) -> bool:
    """Return whether the model has a binary layer."""
    return any(isinstance(module, BinaryLayer) for module in model.modules())


def pack_detector(config: Path, checkpoint: Path, file: Path) -> None:
    """Pack the detector by tools/export.py."""
    command = [sys.executable, str(TOOLS / 'export.py'), str(config), str(checkpoint), str(file)]
    exported = subprocess.run([*command, '--overwrite'])
    if exported.returncode:
        sys.exit(exported.returncode)


def val_images(cfg: Config, number: int) -> list[ValImage]:
    """Load the first val images."""
    from mmcv import imread
    from mmdet.registry import DATASETS

    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    images = []
    for index in range(number):
        info = dataset.get_data_info(index)
        boxes = [instance['bbox'] for instance in info['instances']]
        labels = [instance['bbox_label'] for instance in info['instances']]
        truth = Boxes(
            np.array(boxes, dtype=np.float32).reshape(-1, 4), np.array(labels, dtype=np.int64)
        )
        bgr = imread(info['img_path'])
        images.append(ValImage(bgr, bgr[..., ::-1], truth))
    return images


def detections(models: dict[str, nn.Module], images: list[ValImage]) -> tuple[dict, int]:
    """Return the predictions of each model, and the number of images for which they are equal."""
    from mmdet.apis import inference_detector

    found = {}
    for name, model in models.items():
        results = [inference_detector(model, image.bgr).pred_instances.numpy() for image in images]
        found[name] = [Boxes(result.bboxes, result.labels, result.scores) for result in results]
    equal = sum(
        all(
            np.array_equal(a, b)
            for boxes in by_model[1:]
            for a, b in zip(by_model[0], boxes, strict=True)
        )
        for by_model in zip(*found.values(), strict=True)
    )
    return found, equal


def results(logs: list[Path], data: Path, detector: nn.Module, seconds: float) -> dict[str, str]:
    """Return the rows of the table on data, accuracy, size and time."""
    _, val = read_scalars(logs)
    last = [line for line in val if 'coco/bbox_mAP' in line][-1]
    settings = json.loads((data / 'digits.json').read_text())
    found = model_complexity(detector, settings['size'], settings['size'])
    size = found.size
    return {
        'data': f'{settings["train"]} train and {settings["val"]} val images of {settings["size"]} pixels',
        'mAP': f'{last["coco/bbox_mAP"]:.3f} on the val images',
        'AP50': f'{last["coco/bbox_mAP_50"]:.3f}',
        'parameters': f'{size.total / 1e6:.1f} Mbit ({size.binary / 1e6:.1f} binary, {size.real / 1e6:.1f} real); '
        f'in full precision {size.float / 1e6:.1f} Mbit',
        'operations': f'{found.ops / 1e6:.1f} M; in full precision {found.float_ops / 1e6:.1f} M',
        'time': f'{seconds // 60:.0f} min {seconds % 60:.0f} s',
    }


def packed_results(
    models: dict[str, nn.Module],
    config: Path,
    file: Path,
    images: list[ValImage],
    equal: int,
) -> dict[str, str]:
    """Return the rows of the table on the packed detector: size, predictions and speed."""
    trained = models['trained']
    compared = {
        'packed': models['packed'],
        'int8': pack(copy.deepcopy(trained), 'int8', CalibrationSet(Config.fromfile(config))),
        'real': to_float(copy.deepcopy(trained)),
    }
    steps = {
        name: functools.partial(Detector(model), images[0].bgr) for name, model in compared.items()
    }
    ms = {name: 1e3 * median(times) for name, times in interleaved_times(steps, 30, 3).items()}
    gain = {name: ms['real'] / ms[name] for name in ('packed', 'int8')}
    size, whole = file.stat().st_size / 1e6, model_size(trained).float / 8e6
    return {
        'packed file': f'{size:.2f} MB, {whole / size:.1f} times smaller than in full precision',
        'packed detects': f'the same boxes, bit for bit, in {equal} of {len(images)} images',
        'packed speed': f'{ms["packed"]:.1f} ms from image to boxes, {ms["real"]:.1f} ms with real convolutions: '
        f'{gain["packed"]:.1f} times as fast; {ms["int8"]:.1f} ms with the layers that stay real in int8: '
        f'{gain["int8"]:.1f} times ({instruction_set()}, threads: {torch.get_num_threads()})',
    }


def documented_loss(name: str) -> str:
    """Return what the detector of a config of configs/demo loses against full precision, by docs/results/digits.md."""
    models = load(CONFIG.parent / 'metafile.yml')['Models']
    measured = {model['Name']: model for model in models if 'Results' in model}
    if not {name, FULL_PRECISION} <= set(measured):
        return 'the loss against it was not measured'
    binary, real = (
        measured[one]['Results'][0]['Metrics']['box AP'] for one in (name, FULL_PRECISION)
    )
    seeds = measured[name]['Metadata']['Seeds']
    return (
        f'{real / 100:.3f} mAP on test images, {binary / 100:.3f} for this detector: {(binary - real) / 100:+.3f} '
        f'(means of {seeds} seeds, docs/results/digits.md)'
    )


if __name__ == '__main__':
    run(main, 'the same command continues')
