"""Several trainings one after the other or side by side, each by tools/train.py in a process of its own."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from surge_mm.launch.cli import parse_settings
from surge_mm.launch.config import load_config
from surge_mm.launch.runner import build_model
from surge_mm.utils.atomic_write import write_json
from surge_mm.utils.errors import LaunchError
from surge_mm.utils.registry_errors import explain


def remember_settings(file: Path, settings: list[str]) -> None:
    """Write the settings of a folder to a file, or check that they are those in the file.

    Args:
        file (Path): JSON file in the folder of the runs.
        settings (list[str]): settings of the command.

    Raises:
        LaunchError: if the file holds other settings or cannot be read, or its folder is a file.
    """
    try:
        before = json.loads(file.read_text()) if file.is_file() else settings
    except ValueError as error:
        raise LaunchError(
            f'{str(file)!r} is damaged ({error}). Remove it to go on with the settings of this command'
        ) from error
    if before != settings:
        raise LaunchError(
            f'{str(file.parent)!r} was started with the settings {before}, not {settings}. Use those again, or another '
            '--work-dir'
        )
    if file.parent.is_file():
        raise LaunchError(f'--work-dir {str(file.parent)!r} is not a folder')
    write_json(file, settings)


def check_builds(name: str, path: Path, options: Sequence[str]) -> None:
    """Build what a variant trains, as far as that needs no data: the model, the optimizer and the custom hooks.

    Args:
        name (str): variant.
        path (Path): its config.
        options (Sequence[str]): settings ``KEY=VALUE`` for ``--cfg-options`` of train.py.

    Raises:
        LaunchError: if a part cannot be built.
    """
    args = argparse.Namespace(config=str(path), launcher='none', work_dir=str(path.parent))
    args.cfg_options = parse_settings(options, '--cfg-options')
    logging.disable(logging.INFO)  # a line for each parameter with settings of its own
    try:
        cfg = load_config(args)
        model = build_model(cfg)
        if 'runner_type' not in cfg and 'optimizer' in (cfg.get('optim_wrapper') or {}):
            build_optim_wrapper(model, cfg.optim_wrapper)
        for hook in cfg.get('custom_hooks') or []:
            if isinstance(hook, Mapping):
                HOOKS.build(hook)
    except Exception as error:  # code of a model or of a module of one's own
        message = explain(error).removeprefix(f'config {str(path)!r}: ')
        raise LaunchError(f'variant {name}: {message}') from error
    finally:
        logging.disable(logging.NOTSET)


def check_unfinished(
    queue: Sequence[tuple[str, int]],
    configs: Mapping[str, Path],
    composed: Mapping[str, Config],
    work_dir: Path,
    options: Sequence[str],
) -> None:
    """Check that each variant with an unfinished run can be built, before anything is written or trained.

    Args:
        queue (list[tuple[str, int]]): variant and seed of each run.
        configs (dict[str, Path]): config of each variant that has a file.
        composed (dict[str, Config]): config of each other variant.
        work_dir (Path): folder of all runs.
        options (list[str]): settings for ``--cfg-options`` of train.py.

    Raises:
        LaunchError: if a variant cannot be built.
    """
    unfinished = [run for run in queue if not is_finished(work_dir, *run)]
    with TemporaryDirectory() as folder:
        for name in dict.fromkeys(name for name, _ in unfinished):
            path = configs.get(name, Path(folder) / f'{name}.py')
            if name in composed:
                path.write_text(composed[name].pretty_text)
            check_builds(name, path, options)


def is_finished(work_dir: Path, variant: str, seed: int) -> bool:
    """Return whether a run has ended without an error.

    Args:
        work_dir (Path): folder of all runs.
        variant (str): its variant.
        seed (int): its seed.
    """
    return (work_dir / variant / f'seed_{seed}' / 'finished').is_file()


def train_all(
    queue: list[tuple[str, int]],
    configs: dict[str, Path],
    work_dir: Path,
    options: list[str],
    jobs: int,
    script: Path,
) -> list[tuple[str, int]]:
    """Train all unfinished runs of a queue.

    Args:
        queue (list[tuple[str, int]]): variant and seed of each run.
        configs (dict[str, Path]): config of each variant.
        work_dir (Path): folder of all runs.
        options (list[str]): settings for ``--cfg-options`` of train.py.
        jobs (int): number of parallel runs.
        script (Path): train.py.

    Returns:
        list[tuple[str, int]]: variant and seed of each run that failed.
    """
    environment = dict(os.environ)
    if sys.path[0] == os.getcwd():  # as python -m surge_mm sets it, for modules of the user there
        paths = [os.getcwd(), *environment.get('PYTHONPATH', '').split(os.pathsep)]
        environment['PYTHONPATH'] = os.pathsep.join(filter(None, paths))
    environment.setdefault('OMP_NUM_THREADS', str(max((os.cpu_count() or 1) // jobs, 1)))
    failed: list[tuple[str, int]] = []
    causes: list[str | None] = []  # of the runs that ended, None for a run without an error
    children: set[subprocess.Popen] = set()
    stopping = threading.Event()
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )

    def train(variant_and_seed: tuple[str, int]) -> None:
        name, seed = variant_and_seed
        folder = work_dir / name / f'seed_{seed}'
        if stopping.is_set() or is_hopeless(causes):
            return
        if not is_finished(work_dir, name, seed):
            folder.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, str(script), str(configs[name])]
            command += ['--work-dir', str(folder), '--resume']
            command += ['--cfg-options', f'randomness.seed={seed}', *options]
            progress.update(bar, description=f'{name}, seed {seed}')
            with (folder / 'train.log').open('a') as log:
                start = log.tell()
                child = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
                children.add(child)
                code = child.wait()
                children.discard(child)
            if code and not stopping.is_set():
                failed.append(variant_and_seed)
                cause = last_line(folder / 'train.log', start)
                causes.append(cause)
                text = f'{name}, seed {seed} failed (exit status {code}): {cause}'
                progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
            elif not code:
                causes.append(None)
                (folder / 'finished').touch()
        progress.advance(bar)

    def stop() -> None:
        stopping.set()
        for child in list(children):
            child.terminate()

    with (
        Progress(*columns) as progress,
        ThreadPoolExecutor(jobs) as pool,
        _before_sigterm(stop),
    ):
        bar = progress.add_task('runs', total=len(queue))
        try:
            for _ in pool.map(train, queue):
                pass
        except KeyboardInterrupt:
            stop()
            raise
    if is_hopeless(causes):
        print('The first two runs failed alike, so no further run was started')
    return failed


@contextmanager
def _before_sigterm(stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` when this process gets SIGTERM, before the handler that it had so far."""

    def end(number: int, frame: Any) -> None:
        stop()
        signal.signal(number, before)
        os.kill(os.getpid(), number)

    if threading.current_thread() is not threading.main_thread():  # only it has handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def last_line(file: Path, start: int = 0) -> str:
    """Return the last line of a text file that is not empty; nothing if there is none.

    Args:
        file (Path): the file.
        start (int): byte from which on lines count. Defaults to 0.
    """
    lines = file.read_bytes()[start:].decode(errors='replace').split('\n')
    return next((line.strip() for line in reversed(lines) if line.strip()), '')


def is_hopeless(causes: list[str | None]) -> bool:
    """Return whether the first two runs that ended have failed with the same last line of their logs."""
    return len(causes) > 1 and causes[0] is not None and causes[0] == causes[1]
