"""Damages of image files."""

import io
import os
import random
import struct
import zlib

import numpy as np
from helpers.bad_data import COUNTED, EITHER, HARMLESS, PIXELS, REFUSED, Made
from PIL import Image


def _picture(rng: random.Random) -> Image.Image:
    noise = np.random.default_rng(rng.getrandbits(32))
    return Image.fromarray(noise.integers(0, 255, (PIXELS, PIXELS, 3), dtype=np.uint8))


def _encode(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _jpeg_with_thumbnail(rng: random.Random) -> bytes:
    """Return a JPEG whose metadata holds a small JPEG, with an end marker of its own."""
    exif = b'Exif\0\0' + _encode(_picture(rng).resize((32, 32)), 'JPEG')
    return _encode(_picture(rng), 'JPEG', exif=exif)


def _png_that_claims(size: int, rng: random.Random) -> bytes:
    """Return a small PNG whose header declares ``size`` as width and height."""
    content = bytearray(_encode(_picture(rng), 'PNG'))
    content[16:24] = struct.pack('>II', size, size)
    content[29:33] = struct.pack('>I', zlib.crc32(content[12:29]))
    return bytes(content)


def truncated_image(made: Made, rng: random.Random) -> tuple[str, str]:
    path = rng.choice(made.images)
    kind = rng.choice(['as made', 'thumbnail', 'JPEG', 'PNG', 'BMP', 'WEBP', 'TIFF'])
    content = path.read_bytes()
    if kind == 'thumbnail':
        content = _jpeg_with_thumbnail(rng)
    elif kind != 'as made':
        content = _encode(_picture(rng), kind)
    kept = content[: int(rng.uniform(0, 0.98) * len(content))]
    if kind in ('as made', 'thumbnail', 'PNG') and rng.random() < 0.5:
        kept += bytes(len(content) - len(kept))  # as a crash of the system leaves files
    path.write_bytes(kept)
    return REFUSED, path.name


def wrong_type_of_image(made: Made, rng: random.Random) -> tuple[str, str]:
    path = rng.choice(made.images)
    others = [
        b'',
        b'\0',
        b'\xff\xd8\xff\xd9',
        b'<html><title>404</title></html>',
        b'{"error": "not found"}',
        b'%PDF-1.7\n%%EOF',
        b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n',
        rng.randbytes(rng.randrange(1, 9000)),
        _png_that_claims(rng.choice([200, 5000, 20_000, 30_000, 60_000]), rng),
        _encode(_picture(rng), 'TGA'),
        _encode(_picture(rng), 'ICO'),
        _encode(_picture(rng), 'PCX'),
        None,
    ]
    content = rng.choice(others)
    path.unlink()
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    return REFUSED, path.name


def unusual_image(made: Made, rng: random.Random) -> tuple[str, str]:
    """Kinds of images that look odd and are fine."""
    path = rng.choice(made.images)
    picture = _picture(rng)
    deep = Image.fromarray(np.full((PIXELS, PIXELS), 40000, np.uint16))
    path.write_bytes(
        rng.choice(
            [
                _encode(picture, 'PNG'),
                _encode(picture, 'BMP'),
                _encode(picture, 'WEBP'),
                _encode(picture, 'TIFF'),
                _encode(picture, 'JPEG', progressive=True),
                _encode(picture, 'JPEG') + bytes(rng.choice([1, 9000])),
                _encode(picture.convert('L'), 'JPEG'),
                _encode(picture.convert('CMYK'), 'JPEG'),
                _encode(picture.convert('L'), 'PNG'),
                _encode(picture.convert('LA'), 'PNG'),
                _encode(picture.convert('P'), 'PNG'),
                _encode(picture.convert('RGBA'), 'PNG'),
                _encode(picture.convert('1'), 'PNG'),
                _encode(deep, 'PNG'),
                _jpeg_with_thumbnail(rng),
            ]
        )
    )
    return HARMLESS, path.name


def overwritten_image(made: Made, rng: random.Random) -> tuple[str, str]:
    """Wrong bytes anywhere: JPEGs often survive in a fashion, PNGs do not."""
    path = rng.choice(made.images)
    if rng.random() < 0.3:
        path.write_bytes(_encode(_picture(rng), 'PNG'))
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 3, 20])):
        content[rng.randrange(min(len(content), rng.choice([700, 10**9])))] = rng.randrange(256)
    path.write_bytes(content)
    return EITHER, path.name


def other_size_of_image(made: Made, rng: random.Random) -> tuple[str, str]:
    """Resize the file, so that its annotation declares another size; boxes may lie outside of it."""
    path = rng.choice(made.images)
    size = rng.choice([(1, 1), (3, 90), (90, 3), (95, 96), (200, 150), (97, 97), (16, 16)])
    path.write_bytes(_encode(_picture(rng).resize(size), 'JPEG'))
    return COUNTED, f'{path.name} is {size[0]}x{size[1]}, not {PIXELS}x{PIXELS}'


def large_image(made: Made, rng: random.Random) -> tuple[str, str]:
    """20,000 pixels long."""
    path = rng.choice(made.images)
    long, short = 20_000, rng.choice([420, 700])
    size = rng.choice([(long, short), (short, long)])
    image = Image.new(rng.choice(['L', 'RGB']), size, rng.randrange(256))
    path.write_bytes(_encode(image, rng.choice(['PNG', 'JPEG'])))
    return COUNTED, f'{path.name} is {size[0]}x{size[1]}'


def link(made: Made, rng: random.Random) -> tuple[str, str]:
    """Links and paths out of the folder: what they lead to counts."""
    path = rng.choice(made.images + made.annotations)
    outside = made.folder.parent / 'outside'
    outside.mkdir(exist_ok=True)
    kind = rng.choice(['file', 'path', 'folder', 'nothing', 'loop', 'text', 'pipe', 'device'])
    if kind == 'folder':
        os.rename(path.parent, outside / 'all')
        os.symlink(outside / 'all', path.parent)
        return HARMLESS, path.name
    target = outside / path.name
    os.rename(path, target)
    if kind == 'path' and made.layout == 'coco' and path.suffix == '.jpg':
        name = rng.choice([str(target), f'../../../outside/{path.name}'])
        made.json.write_text(made.json.read_text().replace(path.name, name))
        return HARMLESS, path.name
    if kind == 'nothing':
        target.unlink()
    elif kind == 'loop':
        target.unlink()
        os.symlink(path, target)
    elif kind == 'text':
        target.write_text('root:x:0:0:root')
    elif kind == 'pipe':
        target.unlink()
        os.mkfifo(target)
    elif kind == 'device':
        target = '/dev/zero'
    os.symlink(target, path)
    return HARMLESS if kind in ('file', 'path') else REFUSED, path.name
