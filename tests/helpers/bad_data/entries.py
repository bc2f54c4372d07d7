"""Damages of annotation files apart from boxes."""

import random

import numpy as np
from helpers.bad_data import COUNTED, EITHER, HARMLESS, PIXELS, REFUSED, Made
from pycocotools.mask import encode

FIELDS = {
    'images': ('id', 'file_name', 'width', 'height'),
    'annotations': ('id', 'image_id', 'category_id', 'bbox', 'area', 'iscrowd'),
    'categories': ('id', 'name'),
}
XML_NUMBERS = (
    'size/width',
    'size/height',
    'object/difficult',
    'object/bndbox/xmin',
    'object/bndbox/ymin',
    'object/bndbox/xmax',
    'object/bndbox/ymax',
)


def missing_key(made: Made, rng: random.Random) -> tuple[str, str]:
    if made.layout == 'coco':
        part = rng.choice(list(FIELDS))
        key = rng.choice([*FIELDS[part], None])

        def remove(content: dict) -> None:
            if key is None:
                del content[part]
            else:
                del rng.choice(content[part])[key]

        made.edit_json(remove)
        if made.split == 'train' and key == 'iscrowd':
            return HARMLESS, ''
        if made.split == 'val' and part == 'annotations' and key is None:
            return HARMLESS, ''
        return REFUSED, made.json.name
    path = rng.choice(made.xmls)
    gone = rng.choice(['filename', 'size', 'object/difficult', 'object/name', 'object/bndbox'])
    gone = rng.choice([gone, rng.choice(XML_NUMBERS)])

    def remove_element(root) -> None:
        parent, _, name = gone.rpartition('/')
        parent = root.find(parent) if parent else root
        parent.remove(parent.find(name))

    made.edit_xml(path, remove_element)
    harmless = gone in ('filename', 'size', 'object/difficult')
    return (HARMLESS, '') if harmless else (REFUSED, path.name)


def null_for_a_number(made: Made, rng: random.Random) -> tuple[str, str]:
    """Null, text and lists where a number (or name) must be."""
    if made.layout == 'coco':
        part = rng.choice(list(FIELDS))
        key = rng.choice([key for key in FIELDS[part] if key != 'iscrowd' or made.split == 'val'])
        values = [None, [], {}, [1], {'a': 1}, True, '']
        if key in ('width', 'height', 'area'):
            values += ['12', '1e3', 'NaN', float('nan'), float('inf')]
        if key in ('file_name', 'name'):
            values += [7, 1.5]
        if key == 'bbox':
            values = [None, [], 'x', 5, [1, 2, 3], [1, 2, 3, 4, 5], [None, 1, 5, 5]]
            values += [[1, '2', 30, 30], [[1], 1, 5, 5], {'x': 1}, [1, 2, True, 30]]
        if key == 'iscrowd':
            values = [None, '0', [], {}]
        value = rng.choice(values)
        made.edit_json(lambda content: rng.choice(content[part]).update({key: value}))
        return REFUSED, made.json.name
    path = rng.choice(made.xmls)
    where = rng.choice(XML_NUMBERS)
    value = rng.choice([None, '', 'null', 'None', 'x', '1,5', '0x10', '--1', '1 2', 'Unspecified'])
    made.edit_xml(path, lambda root: setattr(root.find(where), 'text', value))
    return REFUSED, path.name


def duplicate(made: Made, rng: random.Random) -> tuple[str, str]:
    """Ids that two entries have, or an image that is listed twice."""
    if made.layout == 'voc':
        names = made.names.read_text().split()
        twice = rng.choice(names)
        names.insert(rng.randrange(len(names) + 1), twice)
        made.names.write_text('\n'.join(names) + rng.choice(['', '\n']))
        return HARMLESS, twice
    part = rng.choice(list(FIELDS))

    def repeat(content: dict) -> None:
        first, second = rng.sample(content[part], 2)
        second['id'] = rng.choice([first['id'], float(first['id'])])

    made.edit_json(repeat)
    return REFUSED, made.json.name


def unknown_category(made: Made, rng: random.Random) -> tuple[str, str]:
    """Names outside the class list and references to nothing are counted; ids of two kinds are refused."""
    name = rng.choice(
        ['cat', 'Katze ä', '猫', '😀', 'ten ', '-1', 'NaN', 'x' * 300, '<b>&amp;</b>']
    )
    if made.layout == 'voc':
        made.edit_xml(
            rng.choice(made.xmls), lambda root: setattr(root.find('object/name'), 'text', name)
        )
        return COUNTED, name
    if rng.random() < 0.5:
        value = rng.choice([-1, 0, 999, 1.5, '1', 'cat'])
        made.edit_json(
            lambda content: rng.choice(content['annotations']).update(
                {rng.choice(['category_id', 'image_id']): value}
            )
        )
        return REFUSED if isinstance(value, str) else COUNTED, made.json.name

    def add(content: dict) -> None:
        content['categories'].append({'id': 99, 'name': name})
        rng.choice(content['annotations'])['category_id'] = 99

    made.edit_json(add)
    return COUNTED, name


def empty_set(made: Made, rng: random.Random) -> tuple[str, str]:
    """No images, no boxes, or an empty file. Images without boxes are good for evaluation, not for training."""
    nothing_to_train = (REFUSED if made.split == 'train' else EITHER), made.names.name
    if made.layout == 'voc':
        kind = rng.choice(['no names', 'blank lines', 'no objects', 'empty file', 'one empty'])
        if kind == 'no names':
            made.names.write_text('')
        elif kind == 'blank lines':
            made.names.write_text('\n' * rng.randrange(1, 4))
            return REFUSED, '.xml'
        elif kind == 'empty file':
            path = rng.choice(made.xmls)
            path.write_text('')
            return REFUSED, path.name
        else:
            for path in made.xmls if kind == 'no objects' else made.xmls[:1]:
                path.write_text('<annotation/>')
            if kind == 'one empty':
                return HARMLESS, ''
            return nothing_to_train[0], made.names.name
        return REFUSED, made.names.name
    kind = rng.choice(['images', 'annotations', 'categories', 'all', 'file', 'one'])
    if kind == 'file':
        made.json.write_text(rng.choice(['', '{}', '[]', 'null', '0', '""']))
    elif kind == 'one':
        made.edit_json(lambda c: c['images'].append({**c['images'][0], 'id': 10**6}))
        return HARMLESS, ''
    elif kind == 'annotations':
        made.edit_json(lambda content: content['annotations'].clear())
        return nothing_to_train[0], made.json.name
    else:
        parts = FIELDS if kind == 'all' else [kind]
        made.edit_json(lambda content: [content[part].clear() for part in parts])
    return REFUSED, made.json.name


def strange_name(made: Made, rng: random.Random) -> tuple[str, str]:
    """Unicode, spaces and signs in the names of images: files like any other."""
    path = rng.choice(made.images)
    name = rng.choice(
        [
            'a b',
            ' leading',
            'trailing ',
            'Straße',
            'cafe\u0301',
            'файл',
            '画像',
            'صورة',
            '😀',
            '#1',
            '50%25',
            'a;b&c',
            "it's",
            'a"b',
            '-rf',
            '.hidden',
            'a.b.c',
            '$HOME',
            '~',
            '*?',
            'a\\b',
            '\u200b',
            'x' * 200,
            'sub folder/ä',
        ]
    )
    new = path.parent / f'{name}.jpg'
    new.parent.mkdir(exist_ok=True)
    path.rename(new)
    if made.layout == 'coco':
        made.edit_json(
            lambda content: next(
                image for image in content['images'] if image['file_name'] == path.name
            ).update(file_name=f'{name}.jpg')
        )
        return HARMLESS, ''
    xml = made.folder / f'VOC2007/Annotations/{path.stem}.xml'
    target = xml.parent / f'{name}.xml'
    target.parent.mkdir(exist_ok=True)
    xml.rename(target)
    made.names.write_text(made.names.read_text().replace(path.stem, name), encoding='utf-8')
    return HARMLESS, ''


def impossible_name(made: Made, rng: random.Random) -> tuple[str, str]:
    """Names that no file of the set has, or none can have."""
    name = rng.choice(['a\0b', '\ud800', 'x' * 300, '../../gone', '/gone', 'https://gone', ''])
    if made.layout == 'coco':
        made.edit_json(lambda content: content['images'][0].update(file_name=name))
        return REFUSED, made.json.name if not name else ascii(name)[1:5]
    stem = made.images[0].stem
    text = made.names.read_text().replace(stem, name)
    made.names.write_bytes(text.encode('utf-8', 'surrogatepass'))
    return REFUSED, made.names.name


def annotated_size(made: Made, rng: random.Random) -> tuple[str, str]:
    """Set a size that is not the image's. What the host makes of it is counted."""
    size = rng.choice([(0, 0), (-5, PIXELS), (PIXELS, 1), (10, 10), (500, 500), (PIXELS, 10**9)])
    image = made.images[0]
    words = f'{image.name} is {PIXELS}x{PIXELS}, not {size[0]}x{size[1]}'
    if made.layout == 'coco':

        def change(content: dict) -> None:
            entry = next(e for e in content['images'] if e['file_name'] == image.name)
            entry.update(width=size[0], height=size[1])

        made.edit_json(change)
    else:

        def change_xml(root) -> None:
            root.find('size/width').text, root.find('size/height').text = map(str, size)

        made.edit_xml(made.xmls[0], change_xml)
    filtered = made.split == 'train' and min(size) < 32  # by min_size of filter_cfg
    return HARMLESS if filtered else COUNTED, words


def mask(made: Made, rng: random.Random) -> tuple[str, str]:
    """Masks of COCO that are missing or do not fill their size, in a config that loads them."""
    good = [[10.0, 10.0, 40.0, 10.0, 40.0, 40.0]]
    runs = {'size': [PIXELS, PIXELS], 'counts': [100, 50, PIXELS**2 - 150]}
    bad = [
        *(None, [], {}, '', 0),
        {**runs, 'size': 'x'},
        *({**runs, 'counts': counts} for counts in ([5], ['a'], 'garbage', 'ä', '0000')),
        {**runs, 'counts': [-5, PIXELS**2 + 5]},
    ]
    packed = encode(np.eye(PIXELS, dtype=np.uint8, order='F'))['counts'].decode()
    odd = [
        good,
        [[1.0, 2.0]],
        [*good, [1, 2, 3]],
        runs,
        {**runs, 'counts': packed},
        [[-50, -50, 500, -50, 500, 500]],
    ]
    made.split = 'train'
    harmless = rng.random() < 0.3
    value = rng.choice(odd if harmless else bad)

    def change(content: dict) -> None:
        for annotation in content['annotations']:
            annotation['segmentation'] = good
        rng.choice(content['annotations'])['segmentation'] = value

    made.edit_json(change)
    return (HARMLESS, '') if harmless else (REFUSED, made.json.name)
