"""Checkpoints that survive a kill at any moment, and that include accumulated gradients."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.dist import all_reduce, is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner
from torch import nn

from surge_mm.registry import HOOKS
from surge_mm.utils.atomic_write import PARTIAL, write_atomically
from surge_mm.utils.errors import UsageError
from surge_mm.utils.modules import unwrap_model
from surge_mm.utils.suggestions import argument_names, did_you_mean

GRADIENTS = 'accumulated_gradients'
"""Key of the gradients in a checkpoint."""
ATOMIC_BACKEND = 'surge_mm.AtomicLocalBackend'
RESUME = (
    'free some space there, or make it writable, then continue by the same command with --resume'
)
"""What to do after a training could not write a file."""


class AtomicLocalBackend(LocalBackend):
    """MMEngine's backend for local files, with atomic writes (:mod:`surge_mm.utils.atomic_write`)."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write a file atomically.

        Args:
            obj (bytes): Content of the file.
            filepath (str or Path): Path of the file.
        """
        write_atomically(filepath, obj, RESUME)


register_backend(ATOMIC_BACKEND, AtomicLocalBackend)


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook``, with the same arguments, made safe against a kill at any moment.

    - Old checkpoints (see ``max_keep_ckpts`` and ``save_best``) are removed after the new one is written. MMEngine
      removes them first, so that a run that keeps one checkpoint has none for a while.
    - A checkpoint saved between two optimizer steps, which gradient accumulation makes possible, includes the gradients
      accumulated so far (their mean over the ranks), and a resumed run continues with them. MMEngine drops them.
    - Partial files of a killed run are removed when training starts.
    - Each local file is written completely or not at all, by :class:`AtomicLocalBackend`. An ``out_dir`` with a prefix
      such as ``s3://``, and given ``backend_args`` or ``file_client_args``, use the backend of MMEngine.

    Args:
        *args (Any): Positional arguments of ``CheckpointHook``.
        **kwargs (Any): Keyword arguments of ``CheckpointHook``, and of ``Runner.save_checkpoint``.

    Raises:
        UsageError: if neither has an argument of that name.
    """

    file_backend: Any
    backend_args: dict[str, Any] | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._gradients: dict[str, torch.Tensor] = {}
        # MMEngine passes unknown arguments on to Runner.save_checkpoint, which raises after the first epoch
        for name in self.args.keys() - set(argument_names(Runner.save_checkpoint)):
            hint = did_you_mean(name, argument_names(type(self)))
            raise UsageError(f'SafeCheckpointHook got an unknown argument {name!r}{hint}')

    def before_train(self, runner: Runner) -> None:
        """Remove partial files, and restore the gradients of the checkpoint that the run resumes from."""
        is_local = '://' not in str(self.out_dir or runner.work_dir)
        if is_local and self.backend_args is None and self.file_client_args is None:
            self.backend_args = {'backend': ATOMIC_BACKEND}
        super().before_train(runner)
        self.file_backend = _LateRemoval(self.file_backend)
        if is_main_process():
            for partial in Path(self.out_dir).glob(f'.*.pth*{PARTIAL}'):
                partial.unlink(missing_ok=True)
        parameters = dict(unwrap_model(runner.model).named_parameters())
        for name, gradient in self._gradients.items():
            parameters[name].grad = gradient.to(parameters[name])
        self._gradients = {}

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        self._gradients = _gathered_gradients(unwrap_model(runner.model))
        super()._save_checkpoint_with_step(runner, step, meta)
        self._gradients = {}
        self.file_backend.remove_now()

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, Any]) -> None:
        super()._save_best_checkpoint(runner, metrics)
        self.file_backend.remove_now()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add the accumulated gradients to a checkpoint, and make plain dicts of the config dicts of its meta data.

        A ``dict`` in the ``metainfo`` of a dataset is one, which ``torch.load(weights_only=True)`` refuses.

        Args:
            runner (Runner): Runner of the training.
            checkpoint (dict): Checkpoint to be saved. It is changed in place.
        """
        for key in ('meta', 'message_hub'):
            checkpoint[key] = _plain(checkpoint.get(key, {}))
        if self._gradients:
            checkpoint[GRADIENTS] = self._gradients

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Read the accumulated gradients of the checkpoint that the run resumes from.

        Args:
            runner (Runner): Runner of the training.
            checkpoint (dict): Loaded checkpoint.
        """
        self._gradients = checkpoint.get(GRADIENTS, {}) if runner._resume else {}


def _plain(value: Any) -> Any:
    """Return a value with plain dicts in place of config dicts, at any depth of dicts, lists and tuples."""
    if type(value) in (dict, ConfigDict):
        return {key: _plain(one) for key, one in value.items()}
    return type(value)(map(_plain, value)) if type(value) in (list, tuple) else value


def _gathered_gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the mean over all ranks of each gradient that at least one rank has. A collective operation."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if not named:
        return {}
    there = torch.tensor([p.grad is not None for _, p in named]).to(named[0][1].device, torch.int)
    all_reduce(there, 'max')
    gathered = {}
    for (name, p), has in zip(named, there.tolist(), strict=True):
        if has:
            mean = torch.zeros_like(p) if p.grad is None else p.grad.detach().clone()
            all_reduce(mean, 'mean')
            gathered[name] = mean.cpu()
    return gathered


class _LateRemoval:
    """File backend that delays removals until :meth:`remove_now` is called."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self._waiting: list[tuple[Callable[[str], None], str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        self._waiting.append((self._backend.remove, path))

    def rmtree(self, path: str) -> None:
        self._waiting.append((self._backend.rmtree, path))

    def remove_now(self) -> None:
        while self._waiting:
            remove, path = self._waiting.pop()
            if self._backend.exists(path):
                remove(path)
