"""Detect objects in images with a packed detector, draw them, and print the time per image.

python tools/detect.py detector.safetensors image.jpg
python tools/detect.py detector.safetensors folder --out found --threads 1

The time is that from the image in memory to the boxes: resizing, the network, and non-maximum suppression.
"""

import argparse
import time
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

import surge_mm  # noqa: F401  prepares the stack before the hosts are imported
from surge_mm.deploy import instruction_set, load_packed
from surge_mm.launch.cli import Parser, run
from surge_mm.utils.errors import LaunchError

ENDINGS = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('model', help='a packed detector, as tools/export.py writes it')
    parser.add_argument('images', help='an image, or a folder of images')
    parser.add_argument(
        '--out', default='detections', help='folder for the pictures; default ./detections'
    )
    parser.add_argument(
        '--score-thr', type=float, default=0.3, help='boxes of a lower score are not drawn'
    )
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--overwrite', action='store_true', help='replace pictures in --out')
    args = parser.parse_args()
    files = images_of(args.images)
    check(args, files)
    torch.set_num_threads(args.threads)
    detect(load_detector(args.model), files, args)


def images_of(path: str) -> list[Path]:
    """Return the image, or those of the folder in the order of their names."""
    where = Path(path)
    if where.is_file():
        return [where]
    if not where.is_dir():
        raise LaunchError(f'{path!r}: there is no such image or folder (looked from {Path.cwd()})')
    files = sorted(file for file in where.iterdir() if file.suffix.lower() in ENDINGS)
    if not files:
        raise LaunchError(f'{path!r} contains no images: no file ends in {", ".join(ENDINGS)}')
    return files


def picture_of(file: Path, out: str) -> Path:
    """Return the path of the picture of an image.

    Args:
        file (Path): The image.
        out (str): Folder for the pictures.
    """
    return Path(out) / f'{file.name}.png'


def check(args: argparse.Namespace, files: list[Path]) -> None:
    """Check the arguments before the model is loaded.

    Args:
        args (argparse.Namespace): Arguments of the tool.
        files (list[Path]): The images.

    Raises:
        LaunchError: if an argument is invalid, or a picture exists already.
    """
    if not 0 <= args.score_thr <= 1:
        raise LaunchError(f'--score-thr {args.score_thr} must lie in 0 to 1')
    if args.threads < 1:
        raise LaunchError(f'--threads {args.threads} must be at least 1')
    if Path(args.out).is_file():
        raise LaunchError(f'--out {args.out!r} is a file; name a folder')
    existing = [picture_of(file, args.out) for file in files]
    existing = [picture for picture in existing if picture.exists()]
    if existing and not args.overwrite:
        raise LaunchError(
            f'{str(existing[0])!r} exists already: name another folder with --out, or add --overwrite'
        )


def load_detector(path: str) -> torch.nn.Module:
    """Load the detector of a packed file.

    Raises:
        LaunchError: if the model is not a detector.
    """
    from mmdet.models import BaseDetector

    model = load_packed(path)
    if not isinstance(model, BaseDetector):
        raise LaunchError(f'{path!r} contains a {type(model).__name__}, which is not a detector')
    return model


def detect(model: torch.nn.Module, files: list[Path], args: argparse.Namespace) -> None:
    """Draw the detections in each image, and print the times.

    Args:
        model (nn.Module): The detector.
        files (list[Path]): The images.
        args (argparse.Namespace): Arguments of the tool.

    Raises:
        LaunchError: if no image can be read.
    """
    from mmcv import imread
    from mmdet.apis import inference_detector
    from mmdet.visualization import DetLocalVisualizer

    visualizer = DetLocalVisualizer()
    visualizer.dataset_meta = model.dataset_meta
    table = Table(title=f'threads: {args.threads}, {instruction_set()}')
    table.add_column('image', overflow='fold')
    for column in ('boxes', 'ms', 'picture'):
        table.add_column(column, justify='right', overflow='fold')
    times, unreadable = [], []
    for file in track(files, 'images', console=Console(stderr=True)):
        image = imread(str(file))
        if image is None:
            unreadable.append(str(file))
            continue
        if not times:  # compilation and plans for this size are not timed
            inference_detector(model, image)
        start = time.perf_counter()
        found = inference_detector(model, image)
        times.append(1e3 * (time.perf_counter() - start))
        picture = picture_of(file, args.out)
        visualizer.add_datasample(
            file.name,
            image[..., ::-1],
            found,
            draw_gt=False,
            pred_score_thr=args.score_thr,
            out_file=str(picture),
        )
        boxes = int((found.pred_instances.scores >= args.score_thr).sum())
        table.add_row(str(file), str(boxes), f'{times[-1]:.1f}', str(picture))
    for file in unreadable:
        print(f'skipped, not a readable image: {file}')
    if not times:
        raise LaunchError(f'{args.images!r}: none of {len(files)} images can be read')
    Console().print(table)
    print(f'median {median(times):.1f} ms an image, of {len(times)}')


if __name__ == '__main__':
    run(main, 'the pictures written so far stay')
