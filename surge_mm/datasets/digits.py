"""Demo set for detection of handwritten digits, made from the 1,797 scans in scikit-learn.

Every image has 3 to 7 scans in light ink, each 20 to 52 pixels large, on a darker background.
The folder can be read as COCO and as VOC. Both layouts share the image files::

    FOLDER/
      digits.json                        settings of the set
      annotations/{train,val,test}.json  COCO; images under VOC2007/JPEGImages/
      VOC2007/JPEGImages/000001.jpg
      VOC2007/Annotations/000001.xml
      VOC2007/ImageSets/Main/{train,val,test}.txt

Make it with ``python -m surge_mm.datasets.digits FOLDER``.
"""

import argparse
import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track
from sklearn.datasets import load_digits

from surge_mm.datasets.digits_rendering import DIGIT_PIXELS, Digit, draw_image

CLASSES = tuple('0123456789')
SMALLEST_IMAGE = 96
SETTINGS_FILE = 'digits.json'
# Fraction of the scans, chosen at random, that only val images have; the same again for test images.
VAL_SHARE = 0.1


def make_digits(
    folder: str | os.PathLike,
    train: int = 1000,
    val: int = 200,
    size: int = 128,
    seed: int = 0,
    test: int = 500,
) -> Path:
    """Make the set of handwritten digits, unless the folder already has it.

    The same settings give the same files, byte for byte. Train, val and test have different scans. The set is written
    beside ``folder`` and renamed at the end, so that an interruption leaves nothing.

    Args:
        folder (str | Path): folder of the set. A set of the same settings in it is kept.
        train (int): number of train images. Defaults to 1000.
        val (int): number of val images, to make choices on. Defaults to 200.
        size (int): width and height of the images in pixels, at least 96. Defaults to 128.
        seed (int): random seed. Defaults to 0.
        test (int): number of test images, for the last number. Defaults to 500.

    Returns:
        Path: the folder.

    Raises:
        ValueError: if a number is out of range.
        FileExistsError: if the folder has other content.
    """
    for name, value, least in (
        ('train', train, 1),
        ('val', val, 1),
        ('test', test, 1),
        ('seed', seed, 0),
    ):
        if value < least:
            raise ValueError(f'{name}={value} must be at least {least}')
    if size < SMALLEST_IMAGE:
        raise ValueError(
            f'size={size} must be at least {SMALLEST_IMAGE}: digits have up to {DIGIT_PIXELS[1]} pixels'
        )
    folder = Path(folder)
    settings = {
        'version': 2,
        'train': train,
        'val': val,
        'test': test,
        'size': size,
        'seed': seed,
    }
    if _is_made(folder, settings):
        return folder

    place = folder.resolve()  # a link to an empty folder stays one
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_name(f'.{place.name[:50]}.{os.getpid()}.partial')
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _write_set(partial, settings)
        try:
            partial.rename(place)
        except OSError:  # another process may have made it meanwhile
            if not _is_made(folder, settings):
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def split_scans(seed: int) -> dict[str, np.ndarray]:
    """Split the indices of scikit-learn's scans into ``'train'``, ``'val'`` and ``'test'``."""
    order = np.random.default_rng(seed).permutation(len(_load_scans()[1]))
    cut = round(len(order) * VAL_SHARE)
    return {'train': order[2 * cut :], 'val': order[:cut], 'test': order[cut : 2 * cut]}


def _load_scans() -> tuple[np.ndarray, np.ndarray]:
    """Load scikit-learn's scans, shape (1797, 8, 8), in [0, 1], and their digits, shape (1797,)."""
    bunch = load_digits()
    return bunch.images / 16, bunch.target


def _is_made(folder: Path, settings: dict[str, int]) -> bool:
    """Return whether the folder has the set; raise an error if it has other content."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    advice = 'nothing was written; choose another folder, or delete this one'
    try:
        found = json.loads((folder / SETTINGS_FILE).read_text())
    except (OSError, ValueError):
        raise FileExistsError(
            f'{folder} has other content than the digits (no readable {SETTINGS_FILE}): {advice}'
        ) from None
    if found != settings:
        raise FileExistsError(
            f'{folder} has digits with the settings {found}, not {settings}: {advice}'
        )
    return True


def _write_set(folder: Path, settings: dict[str, int]) -> None:
    voc = folder / 'VOC2007'
    for part in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
        (voc / part).mkdir(parents=True)
    (folder / 'annotations').mkdir()
    scans, labels = _load_scans()
    image_id = 0
    for stream, (split, indices) in enumerate(split_scans(settings['seed']).items()):
        content: list[tuple[int, list[Digit]]] = []
        for number in track(range(settings[split]), f'digits {split}'):
            rng = np.random.default_rng([settings['seed'], stream, number])
            image, digits = draw_image(scans[indices], labels[indices], settings['size'], rng)
            image_id += 1
            jpeg = cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
            (voc / f'JPEGImages/{image_id:06d}.jpg').write_bytes(jpeg.tobytes())
            (voc / f'Annotations/{image_id:06d}.xml').write_text(
                _voc_xml(image_id, digits, settings['size'])
            )
            content.append((image_id, digits))
        names = ''.join(f'{name:06d}\n' for name, _ in content)
        (voc / f'ImageSets/Main/{split}.txt').write_text(names)
        (folder / f'annotations/{split}.json').write_text(_coco_json(content, settings['size']))
    (folder / SETTINGS_FILE).write_text(json.dumps(settings) + '\n')


def _coco_json(content: list[tuple[int, list[Digit]]], size: int) -> str:
    annotations = [
        {
            'image_id': image_id,
            'category_id': digit.label + 1,
            'bbox': [digit.x1, digit.y1, digit.x2 - digit.x1, digit.y2 - digit.y1],
            'area': (digit.x2 - digit.x1) * (digit.y2 - digit.y1),
            'iscrowd': 0,
        }
        for image_id, digits in content
        for digit in digits
    ]
    return json.dumps(
        {
            'images': [
                {'id': image_id, 'file_name': f'{image_id:06d}.jpg', 'width': size, 'height': size}
                for image_id, _ in content
            ],
            'annotations': [{'id': n, **a} for n, a in enumerate(annotations, start=1)],
            'categories': [{'id': n, 'name': c} for n, c in enumerate(CLASSES, start=1)],
        }
    )


def _voc_xml(image_id: int, digits: list[Digit], size: int) -> str:
    """Return an annotation in VOC's format. MMDetection subtracts 1 from all four coordinates."""
    objects = ''.join(
        f'<object><name>{CLASSES[d.label]}</name><difficult>0</difficult><bndbox>'
        f'<xmin>{d.x1 + 1}</xmin><ymin>{d.y1 + 1}</ymin>'
        f'<xmax>{d.x2 + 1}</xmax><ymax>{d.y2 + 1}</ymax></bndbox></object>\n'
        for d in digits
    )
    return (
        f'<annotation>\n<filename>{image_id:06d}.jpg</filename>\n'
        f'<size><width>{size}</width><height>{size}</height><depth>3</depth></size>\n'
        f'{objects}</annotation>\n'
    )


def main(argv: list[str] | None = None) -> None:
    """Make the set from the command line: ``python -m surge_mm.datasets.digits FOLDER``."""
    parser = argparse.ArgumentParser(description='Make the demo set of handwritten digits.')
    parser.add_argument('folder', help='folder of the set')
    parser.add_argument('--train', type=int, default=1000, help='number of train images')
    parser.add_argument('--val', type=int, default=200, help='number of val images')
    parser.add_argument('--test', type=int, default=500, help='number of test images')
    parser.add_argument('--size', type=int, default=128, help='width and height in pixels')
    parser.add_argument('--seed', type=int, default=0)
    try:
        print(f'digits in {make_digits(**vars(parser.parse_args(argv)))}')
    except (ValueError, FileExistsError) as error:
        parser.exit(1, f'{error}\n')


if __name__ == '__main__':
    main()
