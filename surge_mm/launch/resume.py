"""The start of a run: its folder, and the checkpoint that it begins with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from mmengine.config import Config

from surge_mm.checkpoint.safe_loading import check_file
from surge_mm.launch.distributed import is_first_rank
from surge_mm.utils.errors import CheckpointError, LaunchError
from surge_mm.utils.logging import warn


@contextmanager
def locked_work_dir(cfg: Config) -> Iterator[None]:
    """Hold a lock of the operating system on the work dir in the block, so that no other training writes there.

    The lock ends with the process, however that ends. Only the first rank takes it. Where the file system has no locks,
    a warning is logged.

    Args:
        cfg (Config): config of a run.

    Raises:
        LaunchError: if another process holds the lock.
    """
    lock = FileLock(Path(cfg.work_dir) / '.lock', timeout=0, fallback_to_soft=False)
    if is_first_rank(cfg):
        try:
            lock.acquire()
        except Timeout:
            raise LaunchError(
                f'work dir {cfg.work_dir!r} is in use by another training: wait for its end, or set another folder '
                'with --work-dir'
            ) from None
        except OSError as error:
            warn(
                f'work dir {cfg.work_dir!r} cannot be locked ({error.strerror}): start no second training there'
            )
    try:
        yield
    finally:
        lock.release()


def check_new_work_dir(cfg: Config) -> None:
    """Check that the work dir has no checkpoints, which training would overwrite.

    Args:
        cfg (Config): config of a new run.

    Raises:
        LaunchError: if there are checkpoints.
    """
    found = sorted(Path(cfg.work_dir).glob('*.pth'))
    if found:
        raise LaunchError(
            f'work dir {cfg.work_dir!r} holds a run already ({found[-1].name}), which would be overwritten: add '
            '--resume to continue it (--resume CHECKPOINT to continue from another than the last checkpoint), or set '
            'another folder with --work-dir'
        )


def choose_start(cfg: Config, resume: str | None) -> list[str]:
    """Set ``load_from`` and ``resume`` of a config, for a new run or for one that is resumed.

    ``resume=True`` in the config means the same as in MMEngine: resume from ``load_from``, or without it from the last
    checkpoint of the work dir.

    Args:
        cfg (Config): config of a run, changed in place.
        resume (str, optional): None to start as the config says, the path of a checkpoint, or ``'auto'`` for the last
            checkpoint of the work dir. Where there is none yet, the run starts as the config says.

    Returns:
        list[str]: a warning if there is no checkpoint to resume from, for the log of the run.

    Raises:
        LaunchError: if checkpoints of another run would be overwritten, or the checkpoint does not exist.
    """
    named, notes = None, []
    if cfg.get('resume'):
        named = cfg.get('load_from')
        resume = resume or named or 'auto'
    cfg.resume = False
    folder = Path(cfg.work_dir)
    if resume == 'auto':
        newest = newest_checkpoint(folder)
        if newest is None and named is None:
            notes = [
                f'warning: {str(folder)!r} has no checkpoint to resume from: the training starts from the beginning'
            ]
        resume = str(newest) if newest else named
    if resume is None:
        check_new_work_dir(cfg)
        return notes
    if Path(resume).resolve().parent != folder.resolve():
        check_new_work_dir(cfg)
    check_checkpoint(resume, 'load_from' if resume == named else '--resume')
    cfg.load_from, cfg.resume = resume, True
    return notes


def newest_checkpoint(folder: Path) -> Path | None:
    """Find the last undamaged checkpoint of the run in a folder; print the damaged ones that are skipped.

    This is the checkpoint named in ``last_checkpoint`` (by its name alone, since folders are moved). If the run was
    killed between writing a checkpoint and writing its name, it is the later ``epoch_N.pth`` or ``iter_N.pth``.

    Args:
        folder (Path): work dir of the run.

    Returns:
        Path, optional: the checkpoint, or None if the folder has none.

    Raises:
        LaunchError: if all checkpoints are damaged, or there are checkpoints of epochs and of iterations and no
            ``last_checkpoint``.
    """
    note = folder / 'last_checkpoint'
    noted = folder / Path(note.read_text().strip()).name if note.is_file() else folder
    kind, last = _kind_and_number(noted)
    numbered = [(*_kind_and_number(file), file) for file in folder.glob('*.pth')]
    kinds = {kind} if kind else {other for other, _, _ in numbered if other}
    if len(kinds) > 1:
        raise LaunchError(
            f'{str(folder)!r} has checkpoints of epochs and of iterations, and no last_checkpoint to choose between '
            'them: choose one with --resume CHECKPOINT'
        )

    def order(number: int, file: Path) -> tuple[bool, bool, int]:
        after_note = kind and number > last and file.stat().st_mtime_ns > note.stat().st_mtime_ns
        return bool(after_note), not kind or number <= last, number

    own = [(number, file) for kind, number, file in numbered if kind in kinds]
    files = [file for _, file in sorted(own, key=lambda item: order(*item), reverse=True)]
    if noted.is_file() and noted not in files:  # with a filename_tmpl of the user
        files.insert(0, noted)
    for file in files:
        try:
            check_file(file)
        except CheckpointError as error:
            print(f'skipped: {error}', flush=True)
        else:
            return file
    if files:
        raise LaunchError(
            f'{str(folder)!r}: all checkpoints are damaged ({", ".join(file.name for file in files)}): start again in '
            'another folder, --work-dir'
        )
    return None


def _kind_and_number(checkpoint: Path) -> tuple[str, int]:
    match = re.fullmatch(r'(epoch|iter)_(\d+)\.pth', checkpoint.name)
    return (match[1], int(match[2])) if match else ('', 0)


def check_checkpoint(path: str | None, argument: str) -> None:
    """Check that a local checkpoint exists. Paths with ``://`` are left to MMEngine.

    Args:
        path (str, optional): the checkpoint, if any.
        argument (str): name of the argument, for the message.

    Raises:
        LaunchError: if there is no such file.
    """
    if path is not None and '://' not in path and not Path(path).is_file():
        raise LaunchError(
            f'{argument} {path!r}: there is no such file (current directory {Path.cwd()})'
        )
