"""Damaged COCO and VOC sets: a valid set, and functions that each damage it in one way, with variants by seed.

A damage is ``damage(made, rng) -> (fate, words)``. The fate is what the check has to do with it:

- ``REFUSED``: an error whose text has ``words``, the name of the file;
- ``COUNTED``: trained through, and a line of the log has ``words``;
- ``HARMLESS``: trained through, nothing to say;
- ``EITHER``: refused with ``words``, or trained through.
"""

import json
import random
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from surge_mm.datasets.digits import make_digits

REFUSED, COUNTED, HARMLESS, EITHER = 'refused', 'counted', 'harmless', 'either'
IMAGES = {'train': 6, 'val': 3, 'test': 2}
PIXELS = 96


@dataclass
class Made:
    """A set to damage: one split of it, in one of the layouts 'coco' and 'voc'."""

    folder: Path
    layout: str
    split: str

    @property
    def json(self) -> Path:
        return self.folder / f'annotations/{self.split}.json'

    @property
    def names(self) -> Path:
        return self.folder / f'VOC2007/ImageSets/Main/{self.split}.txt'

    @property
    def images(self) -> list[Path]:
        """The image files of the split as made; a damage may rename them."""
        folder = self.folder / 'VOC2007/JPEGImages'
        return [folder / f'{name}.jpg' for name in self.names.read_text().split()]

    @property
    def xmls(self) -> list[Path]:
        return [self.folder / f'VOC2007/Annotations/{image.stem}.xml' for image in self.images]

    @property
    def annotations(self) -> list[Path]:
        """The files of annotations of this layout."""
        return [self.json] if self.layout == 'coco' else self.xmls

    def place(self, rng: random.Random, box: list) -> str:
        """Give one object of a random image the box [x, y, width, height]; return the image's name.

        Numbers may be text, which stands in the file as it is.
        """
        image = rng.choice(self.images)
        if self.layout == 'coco':
            text = self.json.read_text()
            content = json.loads(text)
            ids = {entry['file_name']: entry['id'] for entry in content['images']}
            of_image = [a for a in content['annotations'] if a['image_id'] == ids[image.name]]
            rng.choice(of_image)['bbox'] = 'BOX'
            self.json.write_text(
                json.dumps(content).replace('"BOX"', f'[{", ".join(map(str, box))}]')
            )
            return image.name
        x, y, width, height = box
        corners = {'xmin': x, 'ymin': y, 'xmax': _sum(x, width), 'ymax': _sum(y, height)}

        def change(root: ET.Element) -> None:
            bndbox = rng.choice(root.findall('object')).find('bndbox')
            for key, value in corners.items():
                bndbox.find(key).text = str(value)

        self.edit_xml(self.folder / f'VOC2007/Annotations/{image.stem}.xml', change)
        return image.stem

    def edit_json(self, change: Callable[[dict], None]) -> None:
        content = json.loads(self.json.read_text())
        change(content)
        self.json.write_text(json.dumps(content))

    def edit_xml(self, path: Path, change: Callable[[ET.Element], None]) -> None:
        tree = ET.parse(path)
        change(tree.getroot())
        tree.write(path, encoding='utf-8')


def _sum(start: float | str, length: float | str) -> float | str:
    """Return the other end, or whichever of the two is not a number."""
    if isinstance(start, str) or isinstance(length, str):
        return length if isinstance(length, str) else start
    return start + length


Damage = Callable[[Made, random.Random], tuple[str, str]]


def make_good(folder: Path) -> Path:
    return make_digits(folder, **IMAGES, size=PIXELS)


def copy(good: Path, folder: Path, layout: str, rng: random.Random) -> Made:
    """Copy the valid set, to damage it in a split that ``rng`` chooses."""
    shutil.copytree(good, folder)
    return Made(folder, layout, rng.choice(['train', 'train', 'val']))
