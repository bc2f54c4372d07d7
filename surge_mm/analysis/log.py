"""Reading what MMEngine logs: ``<work_dir>/<time>/vis_data/scalars.json``, one JSON object a line."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from surge_mm.utils.errors import UsageError

Lines = list[dict[str, float]]


def read_log(files: Sequence[str | os.PathLike]) -> tuple[Lines, Lines]:
    """The lines of training and of evaluation by step; a later file replaces the steps it repeats."""
    train: dict[float, dict] = {}
    val: dict[float, dict] = {}
    for file in files:
        lines = Path(file).read_text().splitlines()
        for number, text in enumerate(lines, start=1):
            try:
                line = json.loads(text)
            except ValueError as error:
                if number == len(lines):  # a killed run may leave half a line
                    continue
                raise UsageError(f'{file}, line {number} is no JSON: {error}') from None
            kind = train if 'loss' in line else val
            kind[line.get('step', 0)] = line
    return [train[step] for step in sorted(train)], [val[step] for step in sorted(val)]


def curve(lines: Lines, key: str) -> tuple[list[float], list[float]]:
    """The steps at which ``key`` was logged, and its values."""
    points = [(line['step'], line[key]) for line in lines if key in line]
    return [step for step, _ in points], [value for _, value in points]
