"""Where a run begins: in which folder, and with which checkpoint."""

from __future__ import annotations

import pickle
from pathlib import Path

from mmengine.config import Config
from mmengine.model import is_model_wrapper
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from surge_mm.errors import LaunchError


def check_new_work_dir(cfg: Config) -> None:
    """Refuse to train into a folder that holds another run's checkpoints.

    Raises:
        LaunchError: there are checkpoints in it.
    """
    found = sorted(Path(cfg.work_dir).glob('*.pth'))
    if found:
        raise LaunchError(
            f'work dir {cfg.work_dir!r} holds a run already ({found[-1].name}), which would be overwritten: add '
            '--resume to go on with it (--resume CHECKPOINT where it has no last_checkpoint), or name another folder '
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
        pointer = folder / 'last_checkpoint'
        if not pointer.is_file():
            check_new_work_dir(cfg)
            return
        named = Path(pointer.read_text().strip())
        resume = str(
            named if named.is_file() else folder / named.name
        )  # the folder may have been moved
    elif Path(resume).resolve().parent != folder.resolve():
        check_new_work_dir(cfg)
    check_checkpoint(resume, '--resume')
    cfg.load_from, cfg.resume = resume, True


def check_checkpoint(path: str | None, argument: str) -> None:
    """Refuse a local checkpoint that is not there.

    Raises:
        LaunchError: there is no such file. (Names with ``://`` are left to MMEngine.)
    """
    if path is not None and '://' not in path and not Path(path).is_file():
        raise LaunchError(f'{argument} {path!r}: there is no such file (looked from {Path.cwd()})')


def check_fits(model: nn.Module, path: str, whole: bool = True) -> None:
    """Refuse a checkpoint of another model, of which MMEngine would take what fits, with warnings.

    Args:
        model (nn.Module): The model of the config, in its wrapper or not.
        path (str): The checkpoint.
        whole (bool): Every weight must be there, as for evaluation and to go on with a run. Else one is enough: a
            new run may begin with the backbone of another. Defaults to True.

    Raises:
        LaunchError: the checkpoint cannot be read, lacks weights of the model or has others of that name.
    """
    try:
        checkpoint = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
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
    wrong = [
        f'{name} is {tuple(theirs[name].shape) if name in theirs else "missing"} there and {tuple(value.shape)} here'
        for name, value in mine.items()
        if name not in theirs or theirs[name].shape != value.shape
    ]
    if len(wrong) == len(mine) or (whole and wrong):
        raise LaunchError(
            f'checkpoint {path!r} does not fit the model of the config in {len(wrong)} of {len(mine)} weights, '
            f'beginning with: {wrong[0]}. Take the config that it was trained with'
        )
