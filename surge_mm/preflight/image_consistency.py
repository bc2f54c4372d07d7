"""Decoding of all images of datasets, and consistency of their sizes with the annotations.

Only decoding finds a damaged file. Of JPEGs with a few wrong bytes in the header, a third has correct first and last
bytes and a header that Pillow reads, but OpenCV does not decode them.
"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from functools import partial

import mmcv
from mmengine.config import ConfigDict

from surge_mm.preflight.annotations import some
from surge_mm.preflight.leaves import build_lazily
from surge_mm.preflight.pipelines import advise_filter, step_of
from surge_mm.utils.errors import DatasetError
from surge_mm.utils.files import check_each, file_defect
from surge_mm.utils.registry_errors import explain

SIDES = ('width', 'height')
JPEG_START, JPEG_PIXELS, JPEG_END = b'\xff\xd8', b'\xff\xda', b'\xff\xd9'


def check_images(
    key: str, config: ConfigDict, scope: str | None
) -> tuple[list[str], dict[str, str]]:
    """Decode the images of a dataset and compare their sizes with the annotations.

    Args:
        key (str): its config key.
        config (ConfigDict): its config.
        scope (str, optional): ``default_scope`` of the config.

    Returns:
        tuple: warnings, and the defect of each unusable image by its path.

    Raises:
        DatasetError: if the dataset cannot be loaded.
    """
    dataset = build_lazily(key, config, scope)
    if dataset is None:
        return [], {}
    try:
        with redirect_stdout(sys.stderr):  # pycocotools prints
            dataset.full_init()
        infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    except (AttributeError, NotImplementedError):  # a dataset with its own __getitem__
        return [], {}
    except Exception as error:
        raise DatasetError(f'{key} cannot be loaded: {explain(error)}') from error
    images = {info['img_path']: info for info in infos if 'img_path' in info}
    decoder = step_of(config, 'LoadImageFromFile').get('imdecode_backend', 'cv2')
    broken, others = {}, []
    for path, found in check_each(partial(measure, decoder=decoder), list(images), 'images'):
        if isinstance(found, str):
            broken[path] = found
            continue
        annotated = tuple(images[path].get(side, found[i]) for i, side in enumerate(SIDES))
        if found != annotated:
            others.append('{} is {}x{}, not {}x{}'.format(path, *found, *annotated))
    lines = []
    if others:
        lines.append(
            f'warning: {key}: {len(others):,} images have another size than their annotations (rotated or scaled?): '
            f'{some(others)}. Boxes outside of the decoded image lose their area{advise_filter(key, config)}'
        )
    return lines, broken


def measure(path: str, decoder: str = 'cv2') -> tuple[int, int] | str:
    """Return width and height of an image after EXIF rotation, as in training, or what makes the file unusable.

    Args:
        path (str): the file.
        decoder (str): ``imdecode_backend`` of ``LoadImageFromFile``. Defaults to 'cv2'.

    Returns:
        tuple[int, int] | str: the size or the defect.
    """
    if defect := file_defect(path):
        return defect
    try:
        with open(path, 'rb') as file:
            content = file.read()
        image = mmcv.imfrombytes(content, backend=decoder)
    except Exception:  # decoders raise many kinds for broken data
        image = None
    if image is None:
        return f'is damaged, or no image that {decoder} decodes'
    # decoders fill the missing part of a JPEG with gray; a thumbnail in its metadata has its own end
    if content.startswith(JPEG_START) and content.rfind(JPEG_END) < content.rfind(JPEG_PIXELS):
        return 'is truncated'
    return image.shape[1], image.shape[0]
