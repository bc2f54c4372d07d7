"""Run a packed detector, classifier or segmentor on images, videos or a camera; draw and print what it finds.

python tools/detect.py detector.safetensors image.jpg
python tools/detect.py detector.safetensors folder clip.mp4 'more/*.png' --out found --threads 1
python tools/detect.py detector.safetensors folder --json found.json --save-txt
python tools/detect.py detector.safetensors 0

A folder is searched with its sub-folders, which are kept in --out. A number is a camera, which runs until Ctrl-C. Files
that cannot be used are named at the end. The time is that from the image in memory to the result: resizing, the
network, and non-maximum suppression.
"""

import signal

if __name__ == '__main__' and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback of the imports, which take seconds

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import surge_mm  # noqa: F401  prepares the stack before the hosts are imported
from surge_mm.deploy import instruction_set, load_packed
from surge_mm.deploy.predictor import Predictor
from surge_mm.launch.cli import Parser, add_allow, run
from surge_mm.utils.atomic_write import write_atomically
from surge_mm.utils.errors import LaunchError
from surge_mm.utils.media import (
    Source,
    Unusable,
    VideoWriter,
    find_sources,
    frames_of,
    free_path,
)

AGAIN = 'free some space and run the same command again with --overwrite'


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('model', help='a packed model, as tools/export.py writes it')
    parser.add_argument(
        'inputs',
        nargs='+',
        help='images, videos, folders, patterns in quotes, the number of a camera, or the address of a stream',
    )
    parser.add_argument(
        '--out', default='detections', help='folder for the pictures; default ./detections'
    )
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.3,
        help='boxes of a lower score are left out; default 0.3',
    )
    parser.add_argument('--json', metavar='FILE', help='also write what is found to this file')
    parser.add_argument(
        '--save-txt',
        action='store_true',
        help='also write labels/NAME.txt in --out, as YOLO does: class x y width height in parts of the image, '
        'or score and class of a classifier',
    )
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--overwrite', action='store_true', help='replace files in --out')
    add_allow(parser)
    args = parser.parse_args()
    sources = find_sources(args.inputs, args.out)
    taken: set[Path] = set()
    labels = [
        free_path(
            Path(args.out, 'labels', s.target.relative_to(args.out)).with_suffix('.txt'), taken
        )
        for s in sources
    ]
    check(args, sources, labels if args.save_txt else [])
    torch.set_num_threads(args.threads)
    predictor = Predictor(load_packed(args.model, allow=args.allow), args.score_thr)
    detect(predictor, list(zip(sources, labels, strict=True)), args)


def check(args: argparse.Namespace, sources: list[Source], labels: list[Path]) -> None:
    """Check the arguments before the model is loaded.

    Args:
        args (argparse.Namespace): Arguments of the tool.
        sources (list[Source]): The images, videos and cameras.
        labels (list[Path]): Files of ``--save-txt``.

    Raises:
        LaunchError: if an argument is invalid, or a file to write exists already.
    """
    if not 0 <= args.score_thr <= 1:
        raise LaunchError(f'--score-thr {args.score_thr} must lie in 0 to 1')
    if args.threads < 1:
        raise LaunchError(f'--threads {args.threads} must be at least 1')
    if Path(args.out).is_file():
        raise LaunchError(f'--out {args.out!r} is a file; name a folder')
    if args.json and Path(args.json).is_dir():
        raise LaunchError(f'--json {args.json!r} is a folder; name a file')
    written = [source.target for source in sources] + labels
    written += [Path(args.json)] if args.json else []
    existing = [path for path in written if path.exists()]
    if existing and not args.overwrite:
        raise LaunchError(
            f'{str(existing[0])!r} exists already: name another folder with --out, or add --overwrite'
        )


def detect(
    predictor: Predictor, sources: list[tuple[Source, Path]], args: argparse.Namespace
) -> None:
    """Draw the predictions for each image and video, and print the times.

    Args:
        predictor (Predictor): The model.
        sources (list[tuple[Source, Path]]): Images and videos, each with its file of ``--save-txt``.
        args (argparse.Namespace): Arguments of the tool.

    Raises:
        LaunchError: if no image or video can be used.
    """
    table = Table(title=f'threads: {args.threads}, {instruction_set()}')
    for column in ('image', 'found', 'ms', 'picture'):
        table.add_column(column, overflow='fold')
    times: list[float] = []
    results: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task('images', total=len(sources))
        for source, label in sources:
            first = len(results)
            writer = VideoWriter(source.target) if source.moves else None
            try:
                for number, (image, rate) in enumerate(frames_of(source)):
                    found, drawn = run_timed(predictor, image, times)
                    result = {'file': source.name, 'height': len(image), 'width': len(image[0])}
                    results.append(
                        {**result, **({'frame': number} if writer else {}), 'found': found}
                    )
                    if writer:
                        writer.write(drawn, rate)
                        progress.update(bar, description=f'{source.name} frame {number}')
                    else:
                        write_picture(source.target, drawn)
                    if args.save_txt:
                        path = label.with_stem(f'{label.stem}_{number}') if writer else label
                        write(path, txt(results[-1]))
            except Unusable as error:
                skipped[source.name] = str(error)
            except KeyboardInterrupt:
                if source.is_file:
                    raise
            finally:
                if writer:
                    writer.close()
            if new := results[first:]:
                ms = f'{median(times[first:]):.1f}'
                table.add_row(source.name, summary(new), ms, str(source.target))
            progress.advance(bar)
    if args.json:
        content = {'model': args.model, 'classes': list(predictor.classes), 'results': results}
        write(Path(args.json), json.dumps({**content, 'skipped': skipped}, indent=1) + '\n')
    for name, reason in skipped.items():
        print(f'skipped: {name}: {reason}')
    if not results:
        raise LaunchError(f'none of {len(sources)} images and videos can be used')
    Console().print(table)
    print(f'median {median(times):.1f} ms an image, of {len(times)}')


def run_timed(
    predictor: Predictor, image: np.ndarray, times: list[float]
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Return what the model finds in an image, and the picture of it.

    Args:
        predictor (Predictor): The model.
        image (np.ndarray): Shape (H, W, 3), uint8, BGR.
        times (list[float]): The milliseconds of the prediction are appended.

    Raises:
        Unusable: if the model does not run on the image.
    """
    try:
        if not times:  # compilation and plans for this size are not timed
            predictor.predict(image)
        start = time.perf_counter()
        sample = predictor.predict(image)
        elapsed = 1e3 * (time.perf_counter() - start)
        result = predictor.describe(sample), predictor.draw(image, sample)
    except (
        Exception
    ) as error:  # transforms and networks raise many kinds for images that are too small
        reason = ' '.join(str(error).split())
        height, width = image.shape[:2]
        raise Unusable(
            f'the model does not run on {height}x{width} pixels: {type(error).__name__}: {reason:.200}'
        ) from error
    times.append(elapsed)
    return result


def summary(results: list[dict[str, Any]]) -> str:
    """Return what was found in an image, or in the frames of a video, as a cell of the table."""
    if len(results) > 1 or 'frame' in results[0]:
        return f'{sum(len(result["found"]) for result in results)} in {len(results)} frames'
    found = results[0]['found']
    if any('bbox' in one for one in found) or not found:
        return f'{len(found)} boxes'
    found = sorted(found, key=value_of, reverse=True)[:3]
    return ', '.join(f'{one["class"]} {value_of(one):.2f}' for one in found)


def value_of(one: dict[str, Any]) -> float:
    """Return the score of a class, or the share of its pixels."""
    return one['score'] if 'score' in one else one['share']


def txt(result: dict[str, Any]) -> str:
    """Return what was found in an image as lines of a text file in the format of YOLO."""
    lines = []
    for one in result['found']:
        if 'bbox' in one:
            x1, y1, x2, y2 = one['bbox']
            width, height = result['width'], result['height']
            box = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height
            box += (x2 - x1) / width, (y2 - y1) / height
            lines.append(f'{one["label"]} ' + ' '.join(f'{value:.6f}' for value in box))
        else:
            lines.append(f'{value_of(one):.4f} {one["class"]}')
    return ''.join(f'{line}\n' for line in lines)


def write(path: Path, text: str) -> None:
    """Write a text file."""
    write_atomically(path, text.encode(), AGAIN)


def write_picture(path: Path, image: np.ndarray) -> None:
    """Write an image in the format of the ending of its name."""
    write_atomically(path, cv2.imencode(path.suffix.lower(), image)[1].tobytes(), AGAIN)


if __name__ == '__main__':
    run(main, 'the pictures written so far stay')
