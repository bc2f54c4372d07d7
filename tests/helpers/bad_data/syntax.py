"""Annotation files that are no JSON, no XML or no list of names."""

import codecs
import json
import random

from helpers.bad_data import EITHER, HARMLESS, REFUSED, Made


def malformed_file(made: Made, rng: random.Random) -> tuple[str, str]:
    """Cut off, in another encoding, or not of its kind at all."""
    return (_malformed_json if made.layout == 'coco' else _malformed_xml)(made, rng)


def _malformed_json(made: Made, rng: random.Random) -> tuple[str, str]:
    text = made.json.read_text()
    content = json.loads(text)
    variants = [
        text[: rng.randrange(len(text) - 1)].encode(),
        codecs.BOM_UTF8 + text.encode(),
        text.encode('utf-16'),
        text.replace('"0"', '"ä"').encode('latin-1'),
        text.replace(',', ',,', 1).encode(),
        text.replace('}', ',}', 1).encode(),
        text.replace('"', "'").encode(),
        text.encode() + b'{}',
        b'[' * 100_000,
        b'{"a":' * 100_000,
        text.replace('"area": ', '"area": 0', 1).encode(),
        text.replace('"area": ', f'"area": {"9" * 5000}', 1).encode(),
        json.dumps([content]).encode(),
        json.dumps({**content, 'images': content['images'][0]}).encode(),
        json.dumps({**content, 'annotations': None}).encode(),
        json.dumps({**content, 'annotations': {}}).encode(),
        json.dumps({**content, 'categories': 'x'}).encode(),
        json.dumps({**content, 'images': [None, *content['images']]}).encode(),
        json.dumps({**content, 'annotations': [[], *content['annotations']]}).encode(),
        json.dumps({**content, 'categories': [1, 2]}).encode(),
        rng.randbytes(rng.randrange(1, 3000)),
    ]
    made.json.write_bytes(rng.choice(variants))
    return REFUSED, made.json.name


def _malformed_xml(made: Made, rng: random.Random) -> tuple[str, str]:
    path = rng.choice(made.xmls)
    text = path.read_text()
    laughs = ''.join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 12))
    variants = [
        text.rstrip()[: rng.randrange(len(text.rstrip()) - 1)].encode(),
        text.replace('</object>', '', 1).encode(),
        text.replace('<name>', '<name>&', 1).encode(),
        text.replace('<name>', '<name>&nothing;', 1).encode(),
        text.replace('<name>', '<name>\0', 1).encode(),
        text.replace('<name>', '<name>ä', 1).encode('latin-1'),
        text.encode() + text.encode(),
        b'<?xml version="1.0" encoding="gb2312"?>' + text.encode(),
        b'<?xml version="1.0" encoding="none"?>' + text.encode(),
        b' <?xml version="1.0"?>' + text.encode(),
        f'<!DOCTYPE a [<!ENTITY l0 "ha">{laughs}]>{text.replace("<name>", "<name>&l11;", 1)}'.encode(),
        f'<!DOCTYPE a [<!ENTITY f SYSTEM "file:///etc/passwd">]>'
        f'{text.replace("<name>", "<name>&f;", 1)}'.encode(),
        b'{"annotation": {}}',
        rng.randbytes(rng.randrange(1, 3000)),
    ]
    path.write_bytes(rng.choice(variants))
    return REFUSED, path.name


def odd_xml(made: Made, rng: random.Random) -> tuple[str, str]:
    """XML that looks odd and says the same."""
    path = rng.choice(made.xmls)
    text = path.read_text()
    variants = [
        codecs.BOM_UTF8 + text.encode(),
        b'<?xml version="1.0" encoding="latin-1"?>' + text.replace('?', '\xe4').encode('latin-1'),
        text.encode('utf-16'),
        text.replace('\n', '\r\n').encode(),
        text.replace('<object>', '<!-- ä --><object>', 1).encode(),
        text.replace('<xmin>', '<xmin> ', 1).encode(),
        text.replace('</xmin>', '.75</xmin>', 1).encode(),
        text.replace('<object>', '<object id="1"><pose/>', 1).encode(),
    ]
    path.write_bytes(rng.choice(variants))
    return HARMLESS, ''


def list_of_names(made: Made, rng: random.Random) -> tuple[str, str]:
    """VOC's list of image names, damaged or only odd."""
    names = made.names.read_text()
    refused = [
        names.replace('\n', ' \n', 1).encode(),
        names.replace('\n', '  1\n').encode(),
        names.replace('\n', '\n\n', 1).encode(),
        names.replace('\n', '.jpg\n').encode(),
        codecs.BOM_UTF8 + names.encode(),
        names.encode('utf-16'),
        'ä'.encode('latin-1') + names.encode(),
        b'\0' + names.encode(),
        rng.randbytes(rng.randrange(1, 300)),
    ]
    harmless = [names.rstrip().encode(), names.replace('\n', '\r\n').encode()]
    if rng.random() < 0.2:
        made.names.write_bytes(rng.choice(harmless))
        return HARMLESS, ''
    made.names.write_bytes(rng.choice(refused))
    return REFUSED, made.names.name


def flipped_bytes(made: Made, rng: random.Random) -> tuple[str, str]:
    """Write a few wrong bytes anywhere in an annotation file, or wrong digits, which leave it well-formed."""
    path = rng.choice(made.annotations)
    content = bytearray(path.read_bytes())
    places = range(len(content))
    values = range(256)
    if rng.random() < 0.7:
        places = [i for i in places if content[i] in b'0123456789']
        values = b'0123456789-.e'
    for _ in range(rng.choice([1, 2, 5])):
        content[rng.choice(places)] = rng.choice(values)
    path.write_bytes(content)
    return EITHER, path.stem
