"""Where a run begins: in which folder, and with which checkpoint."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.model import is_model_wrapper
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from surge_mm.checkpoint.matching import misfits
from surge_mm.checkpoint.safe_loading import check_file, shape_of
from surge_mm.utils.errors import CheckpointError, LaunchError


def check_new_work_dir(cfg: Config) -> None:
    """Refuse to train into a folder that holds another run's checkpoints.

    Raises:
        LaunchError: there are checkpoints in it.
    """
    found = sorted(Path(cfg.work_dir).glob('*.pth'))
    if found:
        raise LaunchError(
            f'work dir {cfg.work_dir!r} holds a run already ({found[-1].name}), which would be overwritten: add '
            '--resume to go on with it (--resume CHECKPOINT for another than the last one), or name another folder '
            'with --work-dir'
        )


def choose_start(cfg: Config, resume: str | None) -> None:
    """Say in ``cfg`` where the run begins: anew, or where a checkpoint of it was made.

    Args:
        cfg (Config): The config of a run; ``load_from`` and ``resume`` are changed.
        resume (str, optional): None for a new run, a checkpoint, or ``'auto'`` for the last one of the work dir; where
            there is none yet, the run is new.

    Raises:
        LaunchError: another run's checkpoints would be overwritten, or the checkpoint is not there.
    """
    cfg.resume = False
    if resume is None:
        check_new_work_dir(cfg)
        return
    folder = Path(cfg.work_dir)
    if resume == 'auto':
        newest = newest_checkpoint(folder)
        if newest is None:
            check_new_work_dir(cfg)
            return
        resume = str(newest)
    elif Path(resume).resolve().parent != folder.resolve():
        check_new_work_dir(cfg)
    check_checkpoint(resume, '--resume')
    cfg.load_from, cfg.resume = resume, True


def newest_checkpoint(folder: Path) -> Path | None:
    """The last whole checkpoint of the run in ``folder``; prints which damaged ones it passes over.

    It is the one that ``last_checkpoint`` notes (by its name alone, for folders are moved), unless a later
    ``epoch_N.pth`` or ``iter_N.pth`` was written after the note: the run was killed between.

    Raises:
        LaunchError: all are damaged; or they are of epochs and of iterations, without a note which the run made.
    """
    note = folder / 'last_checkpoint'
    noted = folder / Path(note.read_text().strip()).name if note.is_file() else folder
    kind, last = _kind_and_number(noted)
    numbered = [(*_kind_and_number(file), file) for file in folder.glob('*.pth')]
    kinds = {kind} if kind else {other for other, _, _ in numbered if other}
    if len(kinds) > 1:
        raise LaunchError(
            f'{str(folder)!r} has checkpoints of epochs and of iterations, and no last_checkpoint that says which '
            'the run made: name one, --resume CHECKPOINT'
        )

    def order(number: int, file: Path) -> tuple[bool, bool, int]:
        after_note = kind and number > last and file.stat().st_mtime_ns > note.stat().st_mtime_ns
        return bool(after_note), not kind or number <= last, number

    own = [(number, file) for kind, number, file in numbered if kind in kinds]
    files = [file for _, file in sorted(own, key=lambda one: order(*one), reverse=True)]
    if noted.is_file() and noted not in files:  # filename_tmpl may be the user's own
        files.insert(0, noted)
    for file in files:
        try:
            check_file(file)
        except CheckpointError as error:
            print(f'passed over: {error}', flush=True)
        else:
            return file
    if files:
        raise LaunchError(
            f'{str(folder)!r}: all checkpoints are damaged ({", ".join(file.name for file in files)}): begin anew in '
            'another folder, --work-dir'
        )
    return None


def _kind_and_number(checkpoint: Path) -> tuple[str, int]:
    match = re.fullmatch(r'(epoch|iter)_(\d+)\.pth', checkpoint.name)
    return (match[1], int(match[2])) if match else ('', 0)


def check_checkpoint(path: str | None, argument: str) -> None:
    """Refuse a local checkpoint that is not there.

    Raises:
        LaunchError: there is no such file. (Names with ``://`` are left to MMEngine.)
    """
    if path is not None and '://' not in path and not Path(path).is_file():
        raise LaunchError(f'{argument} {path!r}: there is no such file (looked from {Path.cwd()})')


def check_fits(model: nn.Module, path: str, whole: bool = True) -> dict[str, Any]:
    """Refuse a checkpoint of another model, of which MMEngine would take what fits, with warnings.

    Args:
        model (nn.Module): The model of the config, in its wrapper or not.
        path (str): The checkpoint.
        whole (bool): Every weight must be there, as for evaluation and to go on with a run. Else one is enough: a
            new run may begin with the backbone of another. Defaults to True.

    Returns:
        dict: The checkpoint.

    Raises:
        LaunchError: the checkpoint cannot be read, lacks weights of the model or has others of that name.
    """
    try:
        checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    except CheckpointError:  # names the file
        raise
    except (RuntimeError, OSError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise LaunchError(f'checkpoint {path!r} cannot be read: {error}') from error
    theirs = {
        name.removeprefix('module.'): value  # as MMEngine reads what a wrapper has saved
        for name, value in checkpoint.get('state_dict', checkpoint).items()
    }
    inner: nn.Module = model.module if is_model_wrapper(model) else model  # type: ignore[assignment]
    mine = {
        name: value
        for name, value in inner.state_dict().items()
        if not name.endswith(('aux_weight', 'num_batches_tracked'))
    }
    missing = {name for name in mine if name not in theirs}
    wrong = [f'{name} is missing there and {shape_of(mine[name])} here' for name in sorted(missing)]
    wrong += misfits(inner, theirs, '')
    if len(wrong) >= len(mine) or (whole and wrong):
        raise LaunchError(
            f'checkpoint {path!r} does not fit the model of the config in {len(wrong)} of {len(mine)} weights, '
            f'beginning with: {wrong[0]}. Take the config that it was trained with'
        )
    return checkpoint
