"""One NaN shall not cost a run: steps that are not finite are left out, and the log names the layer."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from surge_mm.registry import HOOKS
from surge_mm.utils.errors import UsageError


@HOOKS.register_module()
class NonFiniteGuardHook(Hook):
    """Keeps weights and running statistics finite when activations, losses or gradients are not.

    - The optimizer takes no step with a gradient that is not finite; its own state stays as it is too.
    - Buffers, such as the running statistics of batch norms, that a step left not finite get back what they held
      before it. (A sign hides a NaN from the loss, not from the norm before it.)
    - The log says where it began: the first layer, in the order of the forward pass, whose output is not finite; else
      the loss; else the layer in whose backward pass it arose. ``train/guard_bad_steps`` counts such steps.
    - ``patience`` of them in a row end the training: it has diverged, and more steps would cost time alone.

    It costs one read of each output, gradient and buffer a step.

    Args:
        patience (int): Steps in a row. Defaults to 100.

    Raises:
        ValueError: patience is no whole number of at least 1; in training: it is exhausted.
    """

    priority = 'HIGH'  # before what averages or reports the model after a step

    def __init__(self, patience: int = 100) -> None:
        if isinstance(patience, bool) or not isinstance(patience, int) or patience < 1:
            raise ValueError(f'patience={patience!r} must be a whole number of at least 1')
        self.patience = patience
        self._handles: list[RemovableHandle] = []
        self._outputs: list[tuple[str, Tensor]] = []
        self._order: dict[str, int] = {}
        self._bad_gradients: list[str] = []
        self._calls = self._in_a_row = self._total = 0

    def before_train(self, runner: Runner) -> None:
        model = _inner(runner)
        for name, module in model.named_modules():
            if not any(True for _ in module.children()):
                self._handles.append(module.register_forward_hook(self._note(name)))
        names = {p: name for name, p in model.named_parameters()}
        for optimizer in _optimizers(runner):
            self._handles.append(
                optimizer.register_step_pre_hook(
                    lambda optimizer, *_: self._check_gradients(optimizer, names)
                )
            )
        kept = model.state_dict().keys()  # not what a layer notes for the log alone
        self._buffers = [
            b for name, b in model.named_buffers() if name in kept and b.is_floating_point()
        ]
        self._before = [b.clone() for b in self._buffers]

    def _note(self, name: str) -> Any:
        def note(module: nn.Module, args: Any, output: Any) -> None:
            if not module.training or torch.compiler.is_compiling():
                return
            self._calls += 1
            self._order[name] = self._calls
            if isinstance(output, Tensor) and output.is_floating_point() and output.numel():
                # finite exactly if all is, as far as a sum reaches; one read, no copy
                self._outputs.append((name, output.detach().mean()))

        return note

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self._outputs, self._order, self._bad_gradients = [], {}, []
        if self._buffers:
            torch._foreach_copy_(self._before, self._buffers)

    def _check_gradients(self, optimizer: torch.optim.Optimizer, names: dict[Any, str]) -> None:
        held = [
            p for group in optimizer.param_groups for p in group['params'] if p.grad is not None
        ]
        if _all_finite([p.grad for p in held]):
            return
        self._bad_gradients = [names[p] for p in held if not torch.isfinite(p.grad).all()]
        if self._bad_gradients:
            for p in held:
                p.grad = None

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        spoilt = self._restore_buffers()
        first = self._first_output() or _first_loss(outputs) or self._last_gradient()
        if not first and spoilt:
            first = 'a running statistic'
        if not first:
            self._in_a_row = 0
            return
        self._in_a_row += 1
        self._total += 1
        runner.message_hub.update_scalar('train/guard_bad_steps', self._total)
        left_out = '; its step is left out' if self._bad_gradients else ''
        said = f'iteration {runner.iter + 1} is not finite, first in {first}{left_out}'
        print_log(said, 'current', logging.WARNING)
        if self._in_a_row >= self.patience:
            raise UsageError(
                f'training has diverged: {self._in_a_row} steps in a row were not finite, the last first in {first}. '
                'Lower the learning rate or eta, clip the gradients (optim_wrapper.clip_grad), or look at the data; '
                f'NonFiniteGuardHook(patience={self.patience}) says how many are too many'
            )

    def _restore_buffers(self) -> bool:
        if _all_finite(self._buffers):
            return False
        spoilt = [
            (buffer, before)
            for buffer, before in zip(self._buffers, self._before, strict=True)
            if not torch.isfinite(buffer).all()
        ]
        for buffer, before in spoilt:
            buffer.copy_(before)
        return bool(spoilt)

    def _first_output(self) -> str:
        if not self._outputs:
            return ''
        finite = torch.stack([mean.float() for _, mean in self._outputs]).isfinite().tolist()
        bad = [name for (name, _), fine in zip(self._outputs, finite, strict=True) if not fine]
        return f'the output of {bad[0]}' if bad else ''

    def _last_gradient(self) -> str:
        """Of the layers with a bad gradient, the one that backward reaches first."""
        if not self._bad_gradients:
            return ''
        name = max(
            self._bad_gradients, key=lambda name: self._order.get(name.rpartition('.')[0], -1)
        )
        return f'the gradient of {name}'

    def after_train(self, runner: Runner) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []


def _inner(runner: Runner) -> nn.Module:
    model: nn.Module = getattr(runner.model, 'module', runner.model)
    return model


def _optimizers(runner: Runner) -> Iterator[torch.optim.Optimizer]:
    wrapper = runner.optim_wrapper
    for one in wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]:
        yield one.optimizer


def _all_finite(tensors: list[Tensor]) -> bool:
    """Whether their norm is finite, which may say no of large ones, and costs one synchronisation."""
    return not tensors or bool(torch.isfinite(torch.nn.utils.get_total_norm(tensors)))


def _first_loss(outputs: Any) -> str:
    """``outputs`` are the losses by name, as ``train_step`` returns them: their sum ``loss``, then each."""
    if not isinstance(outputs, dict):
        return ''
    bad = [name for name, value in outputs.items() if not torch.as_tensor(value).isfinite().all()]
    return f'the loss {(bad[1:] or bad)[0]}' if bad else ''
