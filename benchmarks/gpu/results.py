"""The JSON files of ``experiment.py``: one a stage, with one run a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from arms import Arm
from groups import finite, write


def _as_read(value: Any) -> Any:
    return json.loads(json.dumps(finite(value)))


class Results:
    """The runs of a stage, which are added to those that its file holds already.

    Args:
        path (Path): The JSON file; it need not exist.
        about (dict): What the file says of the runs: card, setting, choice.

    Raises:
        ValueError: if the file holds runs of another setting, or of other arms of the same names.
    """

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self.path = path
        self.answer: dict[str, Any] = {**about, 'arms': {}, 'runs': []}
        if path.exists():
            kept = json.loads(path.read_text())
            for key in set(about) - {'card', 'torch'}:
                self._compare(key, kept.get(key), about[key])
            self.answer |= {'arms': kept['arms'], 'runs': kept['runs']}

    def _compare(self, key: str, kept: Any, own: Any) -> None:
        if _as_read(kept) != _as_read(own):
            raise ValueError(
                f'{self.path} has {key} {kept}, and this call {own}. Give another folder to --out'
            )

    def lacks(self, arm: Arm, seed: int) -> bool:
        return all((run['arm'], run['seed']) != (arm.name, seed) for run in self.answer['runs'])

    def add(self, arms: list[Arm], runs: list[dict[str, Any]]) -> None:
        """Add finished runs and write the file."""
        for arm in arms:
            settings = arm._asdict()
            self._compare(
                f'the arm {arm.name}', self.answer['arms'].get(arm.name, settings), settings
            )
            self.answer['arms'][arm.name] = settings
        self.answer['runs'] += [{**run, 'card': self.answer['card']} for run in runs]
        write(self.path, self.answer)


def accuracies(path: Path) -> dict[str, dict[int, float]]:
    """Return the accuracy after the last epoch by name of the arm and seed; empty where there is no file."""
    found: dict[str, dict[int, float]] = {}
    for run in json.loads(path.read_text())['runs'] if path.exists() else []:
        found.setdefault(run['arm'], {})[run['seed']] = run['top1']
    return found
