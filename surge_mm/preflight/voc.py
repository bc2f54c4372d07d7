"""Reading and validation of the XML files of a VOC split.

The rules are those of MMDetection's ``XMLDataset``. It subtracts 1 from each coordinate.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections import Counter

import numpy as np

from surge_mm.preflight.annotations import Annotations, is_number, some
from surge_mm.utils.errors import DatasetError
from surge_mm.utils.files import check_each, file_defect

_Size = tuple[float, float]
_Object = tuple[str, float, float, float, float]
_UNKNOWN = (float('nan'), float('nan'))


def read_voc(split_file: str, annotation_folder: str, image_subfolder: str) -> Annotations:
    """Read the XML files of a VOC split.

    Args:
        split_file (str): text file with one image name a line.
        annotation_folder (str): folder of the XML files.
        image_subfolder (str): folder of the images, the beginning of ``image_files``.

    Returns:
        Annotations: the content.

    Raises:
        DatasetError: if the split is empty, or XML files are missing or malformed.
    """
    if defect := file_defect(split_file):
        raise DatasetError(f'{split_file} {defect}')
    try:
        with open(split_file, encoding='utf-8') as file:
            listed = Counter(line.rstrip('\r\n') for line in file)
    except (OSError, ValueError) as error:
        raise DatasetError(f'{split_file} is not readable as a list of names: {error}') from None
    if not listed:
        raise DatasetError(f'{split_file} lists no image')
    paths = [os.path.join(annotation_folder, f'{name}.xml') for name in listed]
    sizes: list[_Size] = []
    objects: list[_Object] = []
    owners: list[int] = []
    defects = []
    for number, (path, result) in enumerate(check_each(_read_xml, paths, 'annotations')):
        if isinstance(result, str):
            defects.append(f'{path} {result}')
            continue
        sizes.append(result[0])
        objects += result[1]
        owners += [number] * len(result[1])
    if defects:
        raise DatasetError(
            f'{len(defects):,} of the {len(paths):,} annotation files of {split_file} cannot be used:\n  '
            + some(defects, '\n  ')
        )
    names = sorted({name for name, *_ in objects})
    places = {name: i for i, name in enumerate(names)}
    boxes = np.array([box for _, *box in objects], dtype=np.float64).reshape(-1, 4)
    empty: np.ndarray = np.any(boxes[:, 2:] <= boxes[:, :2], axis=1)
    return Annotations(
        split_file,
        names,
        {name: os.path.join(image_subfolder, f'{name}.jpg') for name in listed},
        np.array(sizes, dtype=np.float64),
        boxes,
        np.array(owners, dtype=np.int64),
        np.array([places[name] for name, *_ in objects], dtype=np.int64),
        usable=~empty,
        empty=empty,
        repeated=[name for name, n in listed.items() if n > 1],
    )


def _read_xml(path: str) -> tuple[_Size, list[_Object]] | str:
    """Return the size of the image and its objects, or what is wrong with the file."""
    if defect := file_defect(path):
        return defect
    try:
        root = ET.parse(path).getroot()
    except (OSError, ET.ParseError, ValueError, LookupError) as error:
        return f'is malformed ({error})'
    shape: _Size = _UNKNOWN
    objects: list[_Object] = []
    where = 'size'
    try:
        size = root.find('size')
        if size is not None:
            shape = int(size.findtext('width', '')), int(size.findtext('height', ''))
            if not all(map(is_number, shape)):
                return 'is malformed (size: numbers beyond 2^62)'
        for number, item in enumerate(root.findall('object')):
            where = f'object {number}'
            name = item.findtext('name')
            if not name:
                return f'is malformed ({where} has no name)'
            int(item.findtext('difficult', '0'))
            x1, y1, x2, y2 = (
                int(float(item.findtext(f'bndbox/{key}', ''))) - 1
                for key in ('xmin', 'ymin', 'xmax', 'ymax')
            )
            if not all(map(is_number, (x1, y1, x2, y2))):
                return f'is malformed ({where}: the box has numbers beyond 2^62)'
            objects.append((name, x1, y1, x2, y2))
    except (ValueError, OverflowError) as error:
        return f'is malformed ({where}: {error})'
    return shape, objects
