"""Groups of runs that train side by side on one GPU, and their files."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from runs import Run


def new_history(run: Run) -> dict[str, Any]:
    """Return the record of a run that has not begun."""
    return {
        'arm': run.arm.name,
        'seed': run.epoch.seed,
        'loss': [],
        'top1': {},
        'branch': [],
        'seconds': 0.0,
    }


def synchronize(run: Run) -> None:
    """Wait for the GPU, if there is one."""
    if run.setting.device == 'cuda':
        torch.cuda.synchronize()


def train_group(
    runs: list[Run],
    epochs: int,
    histories: list[dict[str, Any]],
    deadline: float,
    evaluated: tuple[torch.Tensor, torch.Tensor] | None = None,
    interval: int = 0,
    whole: bool = False,
    probe: Callable[[Run], float] | None = None,
) -> bool:
    """Train all runs from where they are.

    Args:
        runs: They share the steps of an epoch.
        epochs: The epoch after which to stop.
        histories: A record for each run, which this function continues.
        deadline: Value of ``time.monotonic()`` after which no epoch begins.
        evaluated: Images and labels of the evaluation.
        interval: Epochs between evaluations; 0 for the last epoch alone.
        whole: Whether to stop as soon as the last epoch cannot be reached before ``deadline``.
        probe: Measured at the start and after each epoch, into ``history['probe']``.

    Returns:
        Whether the last epoch was reached.
    """
    data = {run.epoch.seed: run.epoch for run in runs}.values()
    slowest = 0.0
    if probe and not histories[0]['loss']:
        for run, history in zip(runs, histories, strict=True):
            history['probe'] = [probe(run)]
    for i in range(len(histories[0]['loss']), epochs):
        started = time.monotonic()
        if started + 1.1 * slowest * (epochs - i if whole else 1) > deadline:
            return False
        for epoch in data:
            epoch.begin(i)
        synchronize(runs[0])
        for _ in range(runs[0].epoch.steps):
            for run in runs:
                run.step()
        synchronize(runs[0])
        for run, history in zip(runs, histories, strict=True):
            history['loss'].append(run.loss_sum.item() / run.epoch.steps)
            history['branch'].append(run.branch_report())
            run.loss_sum.zero_()
            if probe:
                history['probe'].append(probe(run))
            if evaluated and (i + 1 == epochs or (interval and (i + 1) % interval == 0)):
                history['top1'][i + 1] = run.accuracy(*evaluated)
        took = time.monotonic() - started
        slowest = max(slowest, took)
        for history in histories:
            history['seconds'] += took / len(runs)
        losses = ' '.join(f'{history["loss"][-1]:.3f}' for history in histories)
        print(f'epoch {i + 1}: {took:.1f} s, losses {losses}', flush=True)
    return True


def finite(value: Any) -> Any:
    """Return ``value`` with None in place of numbers that JSON lacks, and floats of six digits."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(one) for one in value]
    if isinstance(value, float):
        return float(f'{value:.6g}') if math.isfinite(value) else None
    return value


def lines(runs: Iterable[dict[str, Any]]) -> str:
    return ',\n  '.join(json.dumps(finite(run)) for run in runs)


def write(path: Path, answer: dict[str, Any]) -> None:
    """Replace the JSON file ``path`` in one step; each run of ``answer['runs']`` is one line."""
    head = json.dumps(finite({key: value for key, value in answer.items() if key != 'runs'}))
    part = path.with_suffix('.part')
    part.write_text(f'{head[:-1]},\n "runs": [\n  {lines(answer["runs"])}\n ]}}\n')
    part.replace(path)
