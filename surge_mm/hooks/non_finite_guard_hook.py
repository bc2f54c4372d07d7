"""Protection of a training run against steps with NaN or infinite values."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from surge_mm.registry import HOOKS
from surge_mm.utils.argument_checks import Positive, checked
from surge_mm.utils.errors import UsageError
from surge_mm.utils.logging import warn
from surge_mm.utils.modules import unwrap_model


@HOOKS.register_module()
class NonFiniteGuardHook(Hook):
    """Keep weights and running statistics finite when activations, losses or gradients are not.

    - The optimizer skips a step whose gradients are not finite. Its own state does not change either.
    - Buffers that are not finite after a step, such as the running statistics of batch norms, are restored to their
      values before it. (A sign hides a NaN from the loss, but not from the norm before it.)
    - The log names the origin: the first layer, in the order of the forward pass, whose output is not finite; else the
      loss; else the layer in whose backward pass the value arose, unless clipping by norm spread it to all.
      ``train/guard_bad_steps`` counts such steps.
    - ``patience`` such steps in a row end the training with an error, because it has diverged.

    The cost of a step is one read of each output, gradient and buffer.

    Args:
        patience (int): Number of steps in a row that end the training. Defaults to 100.

    Raises:
        UsageError: if ``patience`` is not a positive integer. In training: if it is exhausted.
    """

    priority = 'HIGH'  # before hooks that average or report the model after a step

    @checked
    def __init__(self, patience: Positive = 100) -> None:
        self.patience = patience
        self._handles: list[RemovableHandle] = []
        self._outputs: list[tuple[str, Tensor]] = []
        self._bad_gradients: list[str] = []
        self._in_a_row = self._total = 0

    def before_train(self, runner: Runner) -> None:
        """Register hooks on the modules and optimizers, and copy the buffers of the model."""
        model = unwrap_model(runner.model)
        for name, module in model.named_modules():
            if not any(True for _ in module.children()):
                self._handles.append(module.register_forward_hook(self._note(name)))
        names = {p: name for name, p in model.named_parameters()}
        for optimizer in (wrapper.optimizer for wrapper in _wrappers(runner)):
            self._handles.append(
                optimizer.register_step_pre_hook(
                    lambda optimizer, *_: self._check_gradients(optimizer, names)
                )
            )
        # Buffers outside the state dict, such as statistics for the log, may be NaN.
        kept = model.state_dict().keys()
        self._buffers = [
            b for name, b in model.named_buffers() if name in kept and b.is_floating_point()
        ]
        self._before = [b.clone() for b in self._buffers]

    def _note(self, name: str) -> Any:
        def note(module: nn.Module, args: Any, output: Any) -> None:
            if not module.training or torch.compiler.is_compiling():
                return
            if isinstance(output, Tensor) and output.is_floating_point() and output.numel():
                # not finite if an element is not, nor if the sum overflows; one read, no copy
                self._outputs.append((name, output.detach().mean()))

        return note

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Discard the records of the last step, and copy the buffers.

        Args:
            runner (Runner): Not used.
            batch_idx (int): Not used.
            data_batch (Any): Not used.
        """
        self._outputs, self._bad_gradients, self._all_gradients = [], [], False
        self._stepped = False
        if self._buffers:
            torch._foreach_copy_(self._before, self._buffers)

    def _check_gradients(self, optimizer: torch.optim.Optimizer, names: dict[Any, str]) -> None:
        held = [
            p for group in optimizer.param_groups for p in group['params'] if p.grad is not None
        ]
        self._stepped = True
        if _all_finite([p.grad for p in held]):
            return
        self._bad_gradients = [names[p] for p in held if not torch.isfinite(p.grad).all()]
        self._all_gradients = len(self._bad_gradients) == len(held)
        if self._bad_gradients:
            for p in held:
                p.grad = None

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Restore buffers, and log the origin of values that are not finite.

        Args:
            runner (Runner): Runner of the training.
            batch_idx (int): Not used.
            data_batch (Any): Not used.
            outputs (dict[str, Tensor], optional): Losses of the step.

        Raises:
            UsageError: if ``patience`` is exhausted.
        """
        # one synchronization for all of them; what follows finds the origin
        means = [mean for _, mean in self._outputs]
        losses = list(_losses(outputs).values())
        if not self._bad_gradients and _all_finite([*means, *losses, *self._buffers]):
            self._end_row()
            return
        spoilt = self._restore_buffers()
        first = self._first_output() or _first_loss(outputs) or self._last_gradient(runner)
        if not first and spoilt:
            first = 'a running statistic'
        if not first:
            self._end_row()
            return
        self._in_a_row += 1
        self._total += 1
        runner.message_hub.update_scalar('train/guard_bad_steps', self._total)
        skipped = '; its step is skipped' if self._bad_gradients else ''
        warn(f'iteration {runner.iter + 1} is not finite, first in {first}{skipped}')
        if self._in_a_row >= self.patience:
            raise UsageError(
                f'training has diverged: {self._in_a_row} steps in a row were not finite, the last first in {first}. '
                'Lower the learning rate or eta, clip the gradients (optim_wrapper.clip_grad), or check the data. '
                f'NonFiniteGuardHook(patience={self.patience}) sets the limit'
            )

    def _end_row(self) -> None:
        """End the row of bad steps, unless this iteration only accumulated gradients."""
        if self._stepped:
            self._in_a_row = 0

    def _restore_buffers(self) -> bool:
        spoilt = False
        for buffer, before in zip(self._buffers, self._before, strict=True):
            if not torch.isfinite(buffer).all():
                buffer.copy_(before)
                spoilt = True
        return spoilt

    def _first_output(self) -> str:
        bad = (name for name, mean in self._outputs if not mean.isfinite())
        return next((f'the output of {name}' for name in bad), '')

    def _last_gradient(self, runner: Runner) -> str:
        """Name the last parameter with a bad gradient: the backward pass reaches its layer first."""
        if self._all_gradients and any(_clips_norm(wrapper) for wrapper in _wrappers(runner)):
            return 'a gradient; clip_grad has divided all of them by their norm, so its layer is not known'
        return f'the gradient of {self._bad_gradients[-1]}' if self._bad_gradients else ''

    def after_train(self, runner: Runner) -> None:
        """Remove the hooks from the modules and optimizers."""
        for handle in self._handles:
            handle.remove()
        self._handles = []


def _wrappers(runner: Runner) -> list[OptimWrapper]:
    wrapper = runner.optim_wrapper
    return list(wrapper.values()) if isinstance(wrapper, OptimWrapperDict) else [wrapper]


def _clips_norm(wrapper: OptimWrapper) -> bool:
    return bool(wrapper.clip_grad_kwargs) and wrapper.clip_func is torch.nn.utils.clip_grad_norm_


def _all_finite(tensors: list[Tensor]) -> bool:
    """Return whether the total norm is finite. It may overflow for large values; it costs one synchronization."""
    return not tensors or bool(torch.isfinite(torch.nn.utils.get_total_norm(tensors)))


def _losses(outputs: Any) -> dict[str, Tensor]:
    if not isinstance(outputs, dict):
        return {}
    return {name: torch.as_tensor(value) for name, value in outputs.items()}


def _first_loss(outputs: Any) -> str:
    """Name the first loss that is not finite; the total ``loss``, which comes first in ``outputs``, only if alone."""
    bad = [name for name, value in _losses(outputs).items() if not value.isfinite().all()]
    return f'the loss {(bad[1:] or bad)[0]}' if bad else ''
