"""Reading and validation of the XML files of a VOC split.

The rules are those of MMDetection's ``XMLDataset``. It subtracts 1 from each coordinate.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from functools import partial

import numpy as np

from surge_mm.preflight.annotations import Annotations, some
from surge_mm.utils.errors import DatasetError
from surge_mm.utils.files import check_each, file_defect

CORNERS = ('xmin', 'ymin', 'xmax', 'ymax')


def read_voc(
    split_file: str, annotation_folder: str, image_subfolder: str, classes: Sequence[str]
) -> Annotations:
    """Read the XML files of a VOC split.

    Of objects with other names than ``classes``, the box is NaN. MMDetection does not read it.

    Args:
        split_file (str): text file with one image name a line.
        annotation_folder (str): folder of the XML files.
        image_subfolder (str): folder of the images, the beginning of ``image_files``.
        classes (Sequence[str]): ``metainfo['classes']`` of the dataset.

    Returns:
        Annotations: the content.

    Raises:
        DatasetError: if the split is empty, or XML files are missing or malformed.
    """
    if defect := file_defect(split_file):
        raise DatasetError(f'{split_file} {defect}')
    try:
        with open(split_file, encoding='utf-8') as file:
            listed = list(dict.fromkeys(line.rstrip('\r\n') for line in file))
    except ValueError as error:
        raise DatasetError(f'{split_file} is not readable as a list of names: {error}') from None
    if not listed:
        raise DatasetError(f'{split_file} lists no image')
    paths = [os.path.join(annotation_folder, f'{name}.xml') for name in listed]
    results = check_each(partial(_read_xml, classes=classes), paths, 'annotations')
    defects = [f'{path} {result}' for path, result in results if isinstance(result, str)]
    if defects:
        raise DatasetError(
            f'{len(defects):,} of the {len(paths):,} annotation files of {split_file} cannot be used:\n  '
            + some(defects, '\n  ')
        )
    found = [result for _, result in results if not isinstance(result, str)]
    boxes, labels, owners, difficult = [], [], [], []
    names: dict[str, int] = {}
    for number, (_, objects) in enumerate(found):
        for name, is_difficult, *box in objects:
            difficult.append(is_difficult)
            boxes.append(box)
            labels.append(names.setdefault(name, len(names)))
            owners.append(number)
    return Annotations(
        split_file,
        list(names),
        {name: os.path.join(image_subfolder, f'{name}.jpg') for name in listed},
        np.array([size for size, _ in found], dtype=np.float64),
        np.array(boxes, dtype=np.float64).reshape(-1, 4),
        np.array(owners, dtype=np.int64),
        np.array(labels, dtype=np.int64),
        left_out=np.zeros(len(boxes), dtype=bool),
        ignored=np.array(difficult, dtype=bool),
        without_mask=np.ones(len(boxes), dtype=bool),
    )


def _read_xml(path: str, classes: Sequence[str]) -> tuple[tuple[float, float], list[tuple]] | str:
    """Return the size of the image and name, difficulty and box of its objects, or what is wrong with the file."""
    if defect := file_defect(path):
        return defect
    objects = []
    shape = (float('nan'), float('nan'))
    where = ''
    try:
        root = ET.parse(path).getroot()
        size = root.find('size')
        if size is not None:
            where = 'size: '
            shape = int(size.findtext('width', '')), int(size.findtext('height', ''))
        for number, item in enumerate(root.findall('object')):
            where = f'object {number}: '
            name = item.findtext('name')
            if name is None:
                raise ValueError('no name')
            difficult, box = False, [float('nan')] * len(CORNERS)
            if name in classes:
                difficult = bool(int(item.findtext('difficult', '0')))
                box = [int(float(item.findtext(f'bndbox/{key}', ''))) - 1 for key in CORNERS]
            objects.append((name, difficult, *box))
    except (OSError, ET.ParseError, ValueError, LookupError, OverflowError) as error:
        return f'is malformed ({where}{error})'
    return shape, objects
