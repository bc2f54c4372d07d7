"""Values that are not finite, put into a training run at a chosen step and layer."""

import random
from dataclasses import dataclass

import torch
from mmengine.hooks import Hook
from torch import nn

KINDS = ('activation', 'gradient', 'loss')
BAD = (float('nan'), float('inf'), -float('inf'))


@dataclass(frozen=True)
class Fault:
    """``value`` in one element of a layer's output, of the gradient there, or in the loss, at iteration ``at``."""

    kind: str
    layer: str
    at: int
    value: float


def random_fault(rng: random.Random, layers, steps) -> Fault:
    return Fault(rng.choice(KINDS), rng.choice(layers), rng.randrange(steps), rng.choice(BAD))


class Inject(Hook):
    """Makes a fault happen, once for each time that the layer runs in its iteration."""

    priority = 'HIGHEST'  # so that the others see the fault

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.happened = 0
        self._now = False

    def before_train(self, runner):
        model = getattr(runner.model, 'module', runner.model)
        if self.fault.kind == 'loss':
            parse = model.parse_losses

            def spoilt(losses):
                total, logs = parse({name: self._spoil(value) for name, value in losses.items()})
                return total, logs

            model.parse_losses = spoilt
        else:
            model.get_submodule(self.fault.layer).register_forward_hook(self._after)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self._now = runner.iter == self.fault.at

    def _spoil(self, value):
        if not self._now or not torch.is_tensor(value) or not value.requires_grad:
            return value
        self.happened += 1
        return value * self.fault.value

    def _after(self, module: nn.Module, args, output):
        if not self._now or not module.training or not output.numel():
            return output
        if self.fault.kind == 'gradient':
            if output.requires_grad:
                output.register_hook(self._in_gradient)
            return output
        self.happened += 1
        return self._with_fault(output)

    def _in_gradient(self, g):
        self.happened += 1
        return self._with_fault(g)

    def _with_fault(self, tensor):
        element = torch.zeros(tensor.numel(), dtype=tensor.dtype)
        element[tensor.numel() // 2] = self.fault.value
        return tensor + element.view(tensor.shape)


def not_finite(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """Return the names of weights, buffers and parts of the optimizer's state that are not finite."""
    bad = [name for name, value in model.state_dict().items() if not torch.isfinite(value).all()]
    for state in optimizer.state.values():
        bad += [
            key
            for key, value in state.items()
            if torch.is_tensor(value) and not value.isfinite().all()
        ]
    return bad
