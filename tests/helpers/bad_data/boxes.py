"""Damages of boxes. The images are PIXELS wide and high."""

import random

from helpers.bad_data import COUNTED, HARMLESS, PIXELS, REFUSED, Made


def negative_box(made: Made, rng: random.Random) -> tuple[str, str]:
    """Begins left of or above the image: clipped, or counted if nothing is inside."""
    before = -rng.randrange(1, 10 ** rng.randrange(1, 7))
    if rng.random() < 0.5:
        made.place(rng, _turned(rng, [before, 5, 20 - before, 30]))
        return HARMLESS, ''
    length = rng.randrange(1, 1 - before)
    return COUNTED, made.place(rng, _turned(rng, [before, 5, length, 30]))


def huge_box(made: Made, rng: random.Random) -> tuple[str, str]:
    """Larger than the image: clipped; far away: counted; beyond what PyTorch takes: refused."""
    kind = rng.choice(['covers', 'far', 'beyond'])
    if kind == 'beyond':
        large = ['1e400', *('1' + '0' * n for n in (400, 5000))]
        if made.layout == 'coco':
            large += ['1e39', '-1e39', '1e308', '1' + '0' * 19, '1' + '0' * 30]
        large = rng.choice(large)
        name = made.place(rng, _turned(rng, [5, 5, large, 30]))
        return REFUSED, made.json.name if made.layout == 'coco' else f'{name}.xml'
    huge = 10 ** rng.randrange(3, 18)
    if kind == 'covers':
        made.place(rng, _turned(rng, [rng.choice([-huge, 0, 50]), -huge, 2 * huge, 2 * huge]))
        return HARMLESS, ''
    return COUNTED, made.place(rng, _turned(rng, [huge, 5, rng.choice([20, huge]), 30]))


def inverted_box(made: Made, rng: random.Random) -> tuple[str, str]:
    """Set a width or height of zero or less, as of corners in the wrong order."""
    length = -rng.choice([0, 1, 2, 30, 10**6, 10**12])
    other = rng.choice([-20, 0, 20])
    return COUNTED, made.place(rng, _turned(rng, [40, 40, length, other]))


def outside_box(made: Made, rng: random.Random) -> tuple[str, str]:
    """At the far border or beyond it, by a hair or by far."""
    start = PIXELS + 1 + rng.choice([0, 1, 30, 5000])
    if made.layout == 'coco':
        start = rng.choice([start, PIXELS, PIXELS - 1e-4, PIXELS - 1e-9, PIXELS - 1e-12])
    return COUNTED, made.place(rng, _turned(rng, [start, 10, rng.choice([5, 50]), 30]))


def nan_box(made: Made, rng: random.Random) -> tuple[str, str]:
    values = ['NaN', 'Infinity', '-Infinity'] if made.layout == 'coco' else ['nan', 'inf', '-inf']
    box = [10, 10, 30, 30]
    for place in rng.sample(range(4), rng.randrange(1, 5)):
        box[place] = rng.choice(values)
    name = made.place(rng, box)
    return REFUSED, made.json.name if made.layout == 'coco' else f'{name}.xml'


def _turned(rng: random.Random, box: list) -> list:
    """Return the box, or the one with x and y exchanged."""
    x, y, width, height = box
    return rng.choice([box, [y, x, height, width]])
