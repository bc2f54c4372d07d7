"""Read the log of MMEngine, ``<work_dir>/<time>/vis_data/scalars.json``: one JSON object a line."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from surge_mm.utils.errors import UsageError

Lines = list[dict[str, float]]


def read_scalars(files: Sequence[str | os.PathLike]) -> tuple[Lines, Lines]:
    """Read the lines of training and of evaluation, in the order of their steps.

    Args:
        files (Sequence[str]): the logs of one run, the oldest first. A step in a later file replaces the same step in
            an earlier one, as after a resume. Half a last line, which a killed run may leave, is skipped.

    Returns:
        tuple[Lines, Lines]: the lines of training, which have a ``loss``, and all others.

    Raises:
        UsageError: if another line is not JSON.
    """
    train: dict[float, dict] = {}
    val: dict[float, dict] = {}
    for file in files:
        lines = Path(file).read_text().splitlines()
        for number, text in enumerate(lines, start=1):
            try:
                line = json.loads(text)
            except ValueError as error:
                if number == len(lines):
                    continue
                raise UsageError(f'{file}, line {number} is not JSON: {error}') from None
            kind = train if 'loss' in line else val
            kind[line.get('step', 0)] = line
    return [train[step] for step in sorted(train)], [val[step] for step in sorted(val)]


def curve(lines: Lines, key: str) -> tuple[list[float], list[float]]:
    """Return the curve of one logged quantity.

    Args:
        lines (Lines): lines of training or of evaluation.
        key (str): the quantity, such as ``loss``. Lines without it are skipped.

    Returns:
        tuple[list[float], list[float]]: the steps and the values.
    """
    points = [(line['step'], line[key]) for line in lines if key in line]
    return [step for step, _ in points], [value for _, value in points]
