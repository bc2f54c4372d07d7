"""Train, evaluate and look at a 1-bit detector of handwritten digits: what `make demo` runs.

Writes data/digits and work_dirs/demo below the current folder. Interrupted, it goes on where it was when run again.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import surge_mm  # noqa: F401  prepares the stack before the hosts are imported
from surge_mm.analysis.log import read_log
from surge_mm.analysis.plots import Boxes, draw_detections, plot_training
from surge_mm.analysis.size import size_in_bits
from surge_mm.datasets.digits import make_digits
from surge_mm.errors import LaunchError
from surge_mm.launch import remember_settings, run
from surge_mm.options import Parser, setting

TOOLS = Path(__file__).resolve().parent
CONFIG = TOOLS.parent / 'configs' / 'demo' / 'fcos_r18-light_10e_digits_surge.py'


def main() -> None:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument('--config', default=str(CONFIG), help='another config of configs/demo')
    parser.add_argument(
        '--work-dir', help='default work_dirs/demo, for another config work_dirs/demo_NAME'
    )
    parser.add_argument('--pictures', type=int, default=6, help='val images to draw')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        type=setting,
        default=[],
        metavar='KEY=VALUE',
        help='passed on to train.py',
    )
    args = parser.parse_args()
    start = time.time()
    name = Path(args.config).stem
    default = 'work_dirs/demo' if name == CONFIG.stem else f'work_dirs/demo_{name}'
    work_dir = Path(args.work_dir or default)
    if not 1 <= args.pictures <= 200:
        raise LaunchError(
            f'--pictures {args.pictures} must lie in 1 to 200, the number of val images'
        )
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
    detector, pictures = draw_val_images(
        work_dir / Path(args.config).name, checkpoint, args.pictures, work_dir / 'detections.png'
    )
    results(work_dir, logs, data, detector, time.time() - start)
    print(f'checkpoint  {checkpoint}\npictures    {pictures}\n            {curves}')


def draw_val_images(config: Path, checkpoint: Path, number: int, out: Path) -> tuple:
    """Draw the first val images with their ground truth and what the detector finds; returns it and the picture."""
    from mmcv import imread
    from mmdet.apis import inference_detector, init_detector
    from mmdet.registry import DATASETS

    detector = init_detector(str(config), str(checkpoint), device='cpu')
    cfg = detector.cfg.val_dataloader.dataset
    dataset = DATASETS.build(cfg)
    images, truth, found = [], [], []
    for index in range(number):
        info = dataset.get_data_info(index)
        image = imread(info['img_path'], channel_order='rgb')
        instances = info['instances']
        result = inference_detector(detector, info['img_path']).pred_instances.numpy()
        images.append(image)
        truth.append(
            Boxes(
                np.array([i['bbox'] for i in instances], dtype=np.float32).reshape(-1, 4),
                np.array([i['bbox_label'] for i in instances], dtype=np.int64),
            )
        )
        found.append(Boxes(result.bboxes, result.labels, result.scores))
    return detector, draw_detections(
        images, truth, {'predicted': found}, dataset.metainfo['classes'], out
    )


def results(work_dir: Path, logs: list[Path], data: Path, detector, seconds: float) -> None:
    """Print the table that the demo ends with."""
    _, val = read_log(logs)
    last = [line for line in val if 'coco/bbox_mAP' in line][-1]
    settings = json.loads((data / 'digits.json').read_text())
    size = size_in_bits(detector)
    table = Table(title='1-bit detector of handwritten digits', show_header=False)
    rows = {
        'data': f'{settings["train"]} train and {settings["val"]} val images of {settings["size"]} pixels',
        'mAP': f'{last["coco/bbox_mAP"]:.3f}',
        'AP50': f'{last["coco/bbox_mAP_50"]:.3f}',
        'parameters': f'{size.total / 1e6:.1f} Mbit ({size.binary / 1e6:.1f} binary, {size.real / 1e6:.1f} real); '
        f'in full precision {size.float / 1e6:.1f} Mbit',
        'backbone': _ratio(detector.backbone),
        'time': f'{seconds // 60:.0f} min {seconds % 60:.0f} s',
    }
    for name, value in rows.items():
        table.add_row(name, value)
    Console(width=100).print(table)


def _ratio(module) -> str:
    size = size_in_bits(module)
    return f'{size.total / 1e6:.1f} Mbit, {size.float / size.total:.1f} times smaller than in full precision'


if __name__ == '__main__':
    run(main, 'the same command goes on where it was')
