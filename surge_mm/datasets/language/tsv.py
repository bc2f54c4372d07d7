"""Reading of GLUE's files of tab-separated values.

Quotes are part of the sentences: GLUE's files have no quoting. A byte order mark, which the official files of MRPC
have, and line ends of Windows are removed.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import NamedTuple

from surge_mm.datasets.language.tasks import Task
from surge_mm.utils.errors import DatasetError
from surge_mm.utils.files import file_defect
from surge_mm.utils.logging import warn

NO_TEST = (
    "GLUE's test files have no labels. Use a split with labels, such as split='dev'. Without labels, a model can only "
    'classify'
)


class Row(NamedTuple):
    """A row of a task.

    Attributes:
        sentences (tuple[str, ...]): One or two sentences.
        label (float): Number of the class, or the score of a regression.
    """

    sentences: tuple[str, ...]
    label: float


def read_lines(path: str | os.PathLike) -> list[str]:
    """Return the lines of a text file in UTF-8, without byte order mark, line ends and empty lines at the end.

    Raises:
        DatasetError: if the file is missing, is not UTF-8, or is empty.
    """
    if defect := file_defect(str(path)):
        raise DatasetError(f'{path} {defect}')
    content = Path(path).read_bytes()
    try:
        text = content.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        line = content.count(b'\n', 0, error.start) + 1
        raise DatasetError(
            f'{path}, line {line} is not UTF-8 ({error.reason}): convert the file to UTF-8'
        ) from error
    lines = [line.removesuffix('\r') for line in text.rstrip('\r\n').split('\n')]
    if lines == ['']:
        raise DatasetError(f'{path} is empty: copy the file again')
    return lines


def read_rows(path: str | os.PathLike, task: Task) -> list[Row]:
    """Read the sentences and labels of a file.

    Args:
        path (str | Path): File of the task.
        task (Task): Its columns and labels.

    Returns:
        list[Row]: The rows, in the order of the file.

    Raises:
        DatasetError: if the header lacks a column, or a row has another number of columns, an empty sentence or a wrong
            label. For QQP, whose official files have some such rows, a warning names the rows that are left out.
    """
    lines = read_lines(path)
    columns = list(task.columns) or lines[0].split('\t')
    first = 0 if task.columns else 1
    wanted = [*task.sentences, task.label]
    missing = [name for name in wanted if name not in columns]
    if missing:
        advice = NO_TEST if missing == [task.label] else 'Set task to that of the file'
        raise DatasetError(
            f'{path}, line 1: the header has no column {missing[0]!r}. It has {columns!s:.300}; this task needs '
            f'{wanted}. {advice}'
        )
    places = [columns.index(name) for name in wanted]
    rows, skipped = [], []
    for number, line in enumerate(lines[first:], start=first + 1):
        cells = line.split('\t')
        try:
            _check_cells(cells, columns, places[:-1])
        except ValueError as error:
            if task.skips:
                skipped.append(number)
                continue
            raise DatasetError(f'{path}, line {number}: {error}') from None
        *sentences, text = (cells[place] for place in places)
        rows.append(Row(tuple(sentences), _label(text, task, path, number)))
    if skipped:
        shown = ', '.join(map(str, skipped[:5])) + (', ...' if len(skipped) > 5 else '')
        warn(f'{path}: {len(skipped)} damaged rows are left out, lines {shown}')
    if not rows:
        raise DatasetError(f'{path} has no rows: copy the file again')
    return rows


def _check_cells(cells: list[str], columns: list[str], sentences: list[int]) -> None:
    if len(cells) != len(columns):
        hint = f'. {NO_TEST}' if cells == ['index', 'sentence'] else ''
        raise ValueError(
            f'{len(cells)} columns instead of {len(columns)}, {columns!s:.300}. A sentence contains no tab and no line '
            f'break: correct the line{hint}'
        )
    for place in sentences:
        if not cells[place].strip():
            raise ValueError(f'{columns[place]!r} is empty: remove the line, or add the sentence')


def _label(text: str, task: Task, path: str | os.PathLike, number: int) -> float:
    where = f'{path}, line {number}: {task.label}={text!r}'
    if task.classes:
        if text not in task.texts:
            raise DatasetError(f'{where} must be one of {list(task.texts)}: correct the line')
        return task.texts.index(text)
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise DatasetError(f'{where} must be a number: correct the line, or set task to its own')
    return score
