"""Run a packed detector, classifier or segmentor on images, videos or a camera; draw and print what it finds.

python tools/detect.py detector.safetensors image.jpg
python tools/detect.py detector.safetensors folder clip.mp4 'more/*.png' --out found --threads 1
python tools/detect.py detector.safetensors folder --json found.json --save-txt
python tools/detect.py detector.safetensors 0

A folder is searched with its sub-folders, which are kept in --out; hidden files are left out. A number is a camera,
which runs until Ctrl-C. Files that cannot be used are named at the end. The time is that from the image in memory to
the result: resizing, the network, and non-maximum suppression.
"""

import argparse
import signal
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

import surge_mm  # noqa: F401  prepares the stack before the hosts are imported
from surge_mm.analysis.tables import wide_console
from surge_mm.deploy import instruction_set, load_packed
from surge_mm.deploy.predict.label_files import (
    check_label_files,
    existing_label_file,
    label_file,
    value_of,
    write_classes,
)
from surge_mm.deploy.predict.media import (
    IMAGES,
    VIDEOS,
    Source,
    Unusable,
    find_sources,
)
from surge_mm.deploy.predict.predictor import Predictor
from surge_mm.deploy.predict.run_sources import AGAIN, run_source
from surge_mm.launch.cli import Parser, add_allow, check_least, run
from surge_mm.launch.output_files import add_json, check_output
from surge_mm.utils.atomic_write import write_json
from surge_mm.utils.errors import LaunchError
from surge_mm.utils.files import file_defect


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
    add_json(parser, 'what is found')
    parser.add_argument(
        '--save-txt',
        action='store_true',
        help='also write labels/NAME.txt in --out, as YOLO does: class x y width height in parts of the image, '
        'or score and class of a classifier; and labels/classes.txt, the names of the classes',
    )
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    add_allow(parser)
    args = parser.parse_args()
    check_options(args)
    sources = find_sources(args.inputs, args.out)
    check_model(args)
    check_targets(args, sources)
    torch.set_num_threads(args.threads)
    predictor = Predictor(load_packed(args.model, allow=args.allow), args.score_thr)
    detect(predictor, sources, args)


def check_options(args: argparse.Namespace) -> None:
    """Check the values of options.

    Args:
        args (argparse.Namespace): Arguments of the tool.

    Raises:
        LaunchError: if one is out of range.
    """
    if not 0 <= args.score_thr <= 1:
        raise LaunchError(f'--score-thr {args.score_thr} must lie in 0 to 1')
    check_least(args, 1, 'threads')
    if Path(args.out).is_file():
        raise LaunchError(f'--out {args.out!r} is a file; name a folder')


def check_model(args: argparse.Namespace) -> None:
    """Check that the model is a file, and that model and images are not in the wrong order.

    Args:
        args (argparse.Namespace): Arguments of the tool.

    Raises:
        LaunchError: if they are, or the model is no readable file.
    """
    path = Path(args.model)
    packed = [name for name in args.inputs if name.endswith('.safetensors')]
    if packed and (path.suffix.lower() in (*IMAGES, *VIDEOS) or path.is_dir()):
        raise LaunchError(
            f'{args.model!r} is no packed model. The model comes first: python tools/detect.py {packed[0]} {args.model}'
        )
    if defect := file_defect(args.model):
        raise LaunchError(f'packed model {args.model!r}: it {defect}')


def check_targets(args: argparse.Namespace, sources: list[Source]) -> None:
    """Check the files to write before the model is loaded.

    Args:
        args (argparse.Namespace): Arguments of the tool.
        sources (list[Source]): The images, videos and cameras.

    Raises:
        LaunchError: if one exists already or is an input, two images have one, or ``--json`` is no path of a JSON file.
    """
    inputs = [args.model, *(source.name for source in sources if source.is_file)]
    check_output(args, 'json', '.json', inputs)
    written = [source.target for source in sources]
    if args.save_txt:
        check_label_files(sources, args.out)
        written += [
            existing_label_file(s, args.out) or label_file(s, args.out, 0 if s.moves else None)
            for s in sources
        ]
    read = {Path(name).resolve() for name in inputs}
    for path in written:
        if path.resolve() in read:
            raise LaunchError(
                f'{str(path)!r} is the model or an image, and would be replaced: name another folder with --out'
            )
        if path.exists() and not args.overwrite:
            raise LaunchError(
                f'{str(path)!r} exists already: name another folder with --out, or add --overwrite'
            )


def detect(predictor: Predictor, sources: list[Source], args: argparse.Namespace) -> None:
    """Draw the predictions for each image and video, and print the times.

    Args:
        predictor (Predictor): The model.
        sources (list[Source]): Images and videos.
        args (argparse.Namespace): Arguments of the tool.

    Raises:
        LaunchError: if no image or video can be used.
        KeyboardInterrupt: after Ctrl-C, when the results so far are written. It only ends a camera or a stream.
    """
    table = Table(title=f'threads: {args.threads}, {instruction_set()}')
    for column in ('image', 'found', 'ms', 'picture'):
        table.add_column(column, overflow='fold')
    times: list[float] = []
    results: list[dict[str, Any]] = []
    skipped: dict[str, str] = {}
    labels = args.out if args.save_txt else None
    interrupted, handler = False, signal.getsignal(signal.SIGINT)
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task('images', total=len(sources))
        for source in sources:
            first = len(results)
            try:
                for result, ms in run_source(predictor, source, labels, warm_up=not times):
                    results.append(result)
                    times.append(ms)
                    if source.moves:
                        name = escape(source.name)
                        progress.update(bar, description=f'{name} frame {result["frame"]}')
            except Unusable as error:
                skipped[source.name] = str(error)
            except KeyboardInterrupt:
                # the signal is handled: surge_mm.launch.cli.run must not end the process some seconds later
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGINT, handler)
                interrupted = source.is_file
            if new := results[first:]:
                median_ms = f'{median(times[first:]):.1f}'
                table.add_row(source.name, summary(new), median_ms, str(source.target))
            progress.advance(bar)
            if interrupted:
                break
    if args.json:
        content = {'model': args.model, 'classes': list(predictor.classes), 'results': results}
        write_json(args.json, {**content, 'skipped': skipped}, AGAIN)
    if args.save_txt and results:
        write_classes(args.out, predictor.classes, args.overwrite)
    for name, reason in skipped.items():
        print(f'skipped: {name}: {reason}')
    if results:
        wide_console().print(table, markup=False)
        print(f'median {median(times):.1f} ms an image, of {len(times)}')
    kind = 'images and videos' if any(source.moves for source in sources) else 'images'
    if interrupted:
        print(f'{table.row_count} of {len(sources)} {kind} before Ctrl-C, {len(skipped)} skipped')
        raise KeyboardInterrupt
    if not results:
        raise LaunchError(f'none of {len(sources)} images and videos can be used')
    print(f'{table.row_count} of {len(sources)} {kind}, {len(skipped)} skipped')


def summary(results: list[dict[str, Any]]) -> str:
    """Return what was found in an image, or in the frames of a video, as a cell of the table."""
    found = [one for result in results for one in result['found']]
    frames = f' in {len(results)} frames' if 'frame' in results[0] else ''
    if frames or not found or 'bbox' in found[0]:
        boxes = '' if frames else ' box' if len(found) == 1 else ' boxes'
        classes = Counter(one['class'] for one in found if 'bbox' in one).most_common()
        counts = ', '.join(f'{number} {name}' for name, number in classes)
        return f'{len(found)}{boxes}{frames}' + (f': {counts}' if counts else '')
    found = sorted(found, key=value_of, reverse=True)[:3]
    return ', '.join(f'{one["class"]} {value_of(one):.2f}' for one in found)


if __name__ == '__main__':
    run(main, 'the files written so far stay; with --overwrite, the same command replaces them')
