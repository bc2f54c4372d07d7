"""What the XML files of a VOC split say, and what is wrong with them.

The rules are those of MMDetection's ``XMLDataset``, which counts pixels from 0: 1 is taken off each coordinate.
"""

import os
import xml.etree.ElementTree as ET
from collections import Counter

from surge_mm.preflight.annotations import Annotations, Placed, is_number, some
from surge_mm.utils.errors import DatasetError
from surge_mm.utils.files import check_each, file_defect

_Content = tuple[tuple[int, int] | None, list[Placed]]


def read_voc(split_file: str, annotation_folder: str, image_subfolder: str) -> Annotations:
    """Reads the XML files of a VOC split.

    Args:
        split_file (str): Text file with one image name in a line.
        annotation_folder (str): Folder of the XML files.
        image_subfolder (str): Folder of the images, kept as the start of ``image_files``.

    Raises:
        DatasetError: If the split is empty or XML files are missing or malformed.
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
    found = Annotations(split_file, repeated=[name for name, n in listed.items() if n > 1])
    found.image_files = {name: os.path.join(image_subfolder, f'{name}.jpg') for name in listed}
    paths = {os.path.join(annotation_folder, f'{name}.xml'): name for name in listed}
    defects = []
    for path, result in check_each(_read_xml, list(paths), 'annotations'):
        if isinstance(result, str):
            defects.append(f'{path} {result}')
        else:
            _add(found, paths[path], *result)
    if defects:
        raise DatasetError(
            f'{len(defects):,} of the {len(paths):,} annotation files that {split_file} asks for '
            'cannot be used:\n  ' + some(defects, '\n  ')
        )
    found.names = sorted(found.boxes)
    return found


def _add(
    found: Annotations, image: str, size: tuple[int, int] | None, objects: list[Placed]
) -> None:
    if size is not None:
        found.sizes[image] = size
    found.labelled[image] = {name for name, *_ in objects}
    found.placed[image] = []
    for place in objects:
        name, x1, y1, x2, y2 = place
        if x2 <= x1 or y2 <= y1:
            found.empty_boxes.append(f'{image} {name}')
        else:
            found.boxes[name] += 1
            found.placed[image].append(place)


def _read_xml(path: str) -> _Content | str:
    """Width and height, if there, and the objects, or what is wrong with the file."""
    if defect := file_defect(path):
        return defect
    try:
        root = ET.parse(path).getroot()
    except (OSError, ET.ParseError, ValueError, LookupError) as error:
        return f'is malformed ({error})'
    shape = None
    objects: list[Placed] = []
    where = 'size'
    try:
        size = root.find('size')
        if size is not None:
            shape = int(size.findtext('width', '')), int(size.findtext('height', ''))
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
