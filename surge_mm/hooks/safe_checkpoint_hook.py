"""Checkpoints of which the last whole one is never lost, and which forget no gradient."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner
from torch import nn

from surge_mm.registry import HOOKS
from surge_mm.utils.argument_checks import accepted, did_you_mean
from surge_mm.utils.atomic_write import PARTIAL
from surge_mm.utils.errors import CheckpointError, UsageError

GRADIENTS = 'accumulated_gradients'


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook`` with the same arguments, safe against a kill at any moment.

    - What ``max_keep_ckpts`` and ``save_best`` no longer keep is removed after the new checkpoint is written. MMEngine
      removes first: killed between, a run that keeps one checkpoint has none.
    - A checkpoint made between two steps of the optimizer, as gradient accumulation allows, holds the gradients
      gathered so far (the mean over the ranks), and a resumed run goes on with them. MMEngine forgets them.
    - What a killed run has left half written is removed when training begins.

    That each file is there whole or not at all is the work of :mod:`surge_mm.utils.atomic_write`.
    """

    file_backend: Any
    _gradients: dict[str, torch.Tensor] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # MMEngine hands unknown arguments to Runner.save_checkpoint, which raises after the first epoch
        for name in self.args.keys() - set(accepted(Runner.save_checkpoint)):
            hint = did_you_mean(name, accepted(type(self)))
            raise UsageError(f'SafeCheckpointHook got an unknown argument {name!r}{hint}')

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        self.file_backend = _LateRemoval(self.file_backend)
        if is_main_process():
            for partial in Path(self.out_dir).glob(f'.*.pth.*{PARTIAL}'):
                partial.unlink(missing_ok=True)
        parameters = dict(_inner(runner).named_parameters())
        for name, gradient in (self._gradients or {}).items():
            parameters[name].grad = gradient.to(parameters[name])
        self._gradients = None

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        self._gradients = _gathered_gradients(_inner(runner))
        super()._save_checkpoint_with_step(runner, step, meta)
        self._gradients = None
        self.file_backend.remove_now()

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, Any]) -> None:
        super()._save_best_checkpoint(runner, metrics)
        self.file_backend.remove_now()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        if self._gradients:
            checkpoint[GRADIENTS] = self._gradients

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        held = checkpoint.get(GRADIENTS, {}) if runner._resume else {}
        shapes = {name: p.shape for name, p in _inner(runner).named_parameters()}
        if not isinstance(held, dict) or any(
            not isinstance(g, torch.Tensor) or shapes.get(name) != g.shape
            for name, g in held.items()
        ):
            raise CheckpointError(
                f'the checkpoint holds {GRADIENTS} that are not those of this model: take the config that it was '
                'trained with'
            )
        self._gradients = held


def _gathered_gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    """The mean over all ranks of each gradient that some rank has; called on all ranks."""
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


def _inner(runner: Runner) -> nn.Module:
    model: nn.Module = getattr(runner.model, 'module', runner.model)
    return model


class _LateRemoval:
    """A file backend whose removals wait for :meth:`remove_now`."""

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
