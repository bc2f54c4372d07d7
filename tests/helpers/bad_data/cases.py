"""Run of a case: a damage, a layout and a seed."""

import random
from pathlib import Path

from helpers.bad_data import (
    COUNTED,
    EITHER,
    HARMLESS,
    REFUSED,
    Damage,
    boxes,
    copy,
    entries,
    images,
    syntax,
)
from helpers.bad_data.training import config_for, train_through

from surge_mm.utils.errors import DatasetError

BOTH = [
    images.truncated_image,
    images.wrong_type_of_image,
    images.unusual_image,
    images.overwritten_image,
    images.other_size_of_image,
    images.large_image,
    images.link,
    boxes.negative_box,
    boxes.huge_box,
    boxes.inverted_box,
    boxes.outside_box,
    boxes.nan_box,
    entries.missing_key,
    entries.null_for_a_number,
    entries.duplicate,
    entries.unknown_category,
    entries.empty_set,
    entries.strange_name,
    entries.impossible_name,
    entries.annotated_size,
    syntax.malformed_file,
    syntax.flipped_bytes,
]
CASES = [(damage, layout) for damage in BOTH for layout in ('coco', 'voc')]
CASES += [(entries.mask, 'coco'), (syntax.odd_xml, 'voc'), (syntax.list_of_names, 'voc')]


def name_of(value) -> str:
    """Return the name of a damage or layout, for the ids of tests."""
    return value if isinstance(value, str) else value.__name__


def try_case(damage: Damage, layout: str, seed: int, good: Path, folder: Path) -> str:
    """Damage a copy of ``good``, try to train on it, and compare the outcome with the expected one.

    Returns:
        str: REFUSED, COUNTED or HARMLESS.
    """
    rng = random.Random(f'{damage.__name__} {layout} {seed}')
    made = copy(good, folder, layout, rng)
    fate, words = damage(made, rng)
    cfg = config_for(folder, layout, crops=rng.random() < 0.3, masks=damage is entries.mask)
    try:
        lines = train_through(cfg)
    except DatasetError as error:
        assert fate in (REFUSED, EITHER), f'refused, although {fate}: {error}'
        assert words in str(error), f'{words!r} is not named: {error}'
        return REFUSED
    assert fate != REFUSED, f'trained, although {words} should be refused: {lines}'
    named = any(words in line for line in lines if words)
    assert fate != COUNTED or named, f'trained, but {words!r} is not in {lines}'
    return COUNTED if fate == COUNTED else HARMLESS
