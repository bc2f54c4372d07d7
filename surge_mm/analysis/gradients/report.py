r"""The gradients of each binary layer in one training step, measured without a trace.

Each call of a layer has a row, since a head is called once for each level. With x, y the input and the output of the
call, L the loss of the batch, and g_b, g_a the gradients of :mod:`surge_mm.ops.dual_path` at x:

- ``lambda``, ``cos`` (cos(g_b, g_a)), ``clipped`` (share of x whose surrogate derivative is 0): what the layer records;
- ``weight_ratio``: ||W_a|| / ||W_b||;
- ``grad_norm``: ||dL/dx||, with the gradient that shortcuts and other layers give to the same x;
- ``growth``: ``grad_norm`` over that of the last layer, the root of the sum of squares over the calls of that layer;
- ``noise``: with g_1, g_2 the gradients of W_b from the two halves of the batch, ``2 ||g_1 - g_2|| / (||g_1|| +
  ||g_2||)``: 0 for equal gradients, 1.41 for uncorrelated ones of equal length, at most 2;
- ``probe`` and ``best_eta``, if asked for: the true slopes of the loss along g_b and g_a, and the eta that fits them
  (:mod:`surge_mm.analysis.gradients.probe`).

A value that does not exist is None: those of the branch in a layer without one, ``grad_norm`` of an input without a
gradient, ``noise`` of a single image. The precision is that of the parameters, without autocast.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from surge_mm.analysis.gradients.losses import losses_of_step
from surge_mm.analysis.gradients.probe import best_eta, check_probe, finite, probe_call
from surge_mm.layers import BinaryLayer, compensated_layers
from surge_mm.layers.learned_activation import keep_starts
from surge_mm.ops import DualPathSpec, FixedScale, Statistics
from surge_mm.ops.gradient_scale import norm
from surge_mm.utils.errors import UsageError
from surge_mm.utils.modules import unwrap_model

NO_BRANCH = (
    'the model has no layer with a branch. Add compensator=dict(eta=...) to its binary layers, for instance by '
    "conv_cfg=dict(type='surge_mm.SurgeConv2d')"
)
Row = dict[str, Any]


def measure_gradients(model: nn.Module, data_batch: Any, probe: float | None = None) -> list[Row]:
    """Measure the gradients of all calls of binary layers in a training step; the module has the formulas.

    Nothing is trained: parameters, their ``grad``, buffers and random generators stay as they are. The time is that of
    two steps, and with ``probe`` that of four forward passes for each call besides.

    Args:
        model (nn.Module): Model of MMEngine in training mode.
        data_batch (Any): Batch of the training data.
        probe (float, optional): The step of the probe, relative to ||x||. Defaults to None: no probe.

    Returns:
        list[dict]: A row for each call that a gradient reaches, in the order of the forward pass.

    Raises:
        UsageError: if ``probe`` is out of range, the model has no layer with a branch or is in evaluation mode, or its
            step cannot be run (:func:`.gradients.losses.losses_of_step`), or no gradient reaches a binary layer.
    """
    model = unwrap_model(model)
    check_probe(probe)
    if next(compensated_layers(model), None) is None:
        raise UsageError(f'gradient report: {NO_BRANCH}')
    if not model.training:
        raise UsageError(
            'gradient report: the model is in evaluation mode, in which its loss is not that of training. Call '
            'model.train() first'
        )
    layers = {n: m for n, m in model.named_modules() if isinstance(m, BinaryLayer)}
    with keep_starts(model):  # all runs have the scales that start in the first one
        calls = _observe(model, layers, data_batch, probe is not None)
        if not calls:
            raise UsageError(
                'gradient report: no gradient reaches a binary layer. Unfreeze one, or a layer below it'
            )
        noise = _noise(model, layers, data_batch)
        norms = [
            c.grad_norm for c in calls if c.layer is calls[-1].layer and c.grad_norm is not None
        ]
        last = torch.stack(norms).norm() if norms else None
        rows = []
        for call in calls:
            row = call.row()
            if call.grad_norm is not None and last is not None:
                row['growth'] = finite(call.grad_norm / last)
            row['noise'] = noise.get(call.name)
            if probe is not None:
                h = probe * float(call.norm_x)
                row['probe'] = {
                    name: probe_call(model, data_batch, call.layer, call.number, direction, h)
                    for name, direction in call.directions.items()
                }
                row['best_eta'] = best_eta(row['probe'], call.directions)
            rows.append(row)
    return rows


class _Call:
    """One call of a layer.

    Args:
        name (str): Name of the layer.
        layer (BinaryLayer): The layer.
        number (int): Number of calls of the layer before.
        x (Tensor): Its input.
    """

    def __init__(self, name: str, layer: BinaryLayer, number: int, x: Tensor) -> None:
        self.name, self.layer, self.number = name, layer, number
        self.norm_x = norm(x.detach())
        self.reached = False
        self.statistics: Statistics | None = None
        self.grad_norm: Tensor | None = None
        self.directions: dict[str, Tensor] = {}

    def row(self) -> Row:
        layer = self.layer
        recorded = {} if self.statistics is None else self.statistics._asdict()
        ratio = None
        if layer.scale is not None:
            w_a: Any = layer.weight if layer.tied else layer.aux_weight
            ratio = norm(w_a.detach()) / norm(layer.weight.detach())
        return {
            'layer': self.name,
            'call': self.number,
            'lambda': finite(recorded.get('lam')),
            'cos': finite(recorded.get('cos')),
            'weight_ratio': finite(ratio),
            'clipped': finite(recorded.get('clipped')),
            'grad_norm': finite(self.grad_norm),
            'growth': None,
        }


def _observe(
    model: nn.Module, layers: Mapping[str, BinaryLayer], data_batch: Any, keep: bool
) -> list[_Call]:
    """Run a step, and return the calls that its backward pass reaches; ``keep`` their g_b and g_a."""
    calls: list[_Call] = []

    def record(name: str) -> Any:
        def hook(layer: Any, inputs: Any, output: Tensor) -> None:
            x = inputs[0]
            call = _Call(name, layer, sum(c.layer is layer for c in calls), x)
            calls.append(call)
            if x.requires_grad:
                x.register_hook(lambda g: setattr(call, 'grad_norm', norm(g)))
            node: Any = output.grad_fn
            while node is not None and not isinstance(getattr(node, 'spec', None), DualPathSpec):
                node = node.next_functions[0][0]  # behind the view of an input without batch
            if node is not None:
                node.register_hook(lambda _, g: _take(call, g[0], x.detach() if keep else None))

        return hook

    before = {layer: layer.observe for layer in layers.values()}
    hooks = [layer.register_forward_hook(record(name)) for name, layer in layers.items()]
    for layer in before:
        layer.observe = True
    try:
        with losses_of_step(model, data_batch) as losses:
            for hook in hooks:
                hook.remove()  # a backward pass may run checkpointed layers again
            for layer in before:
                _restart(layer)
            parameters = [p for p in model.parameters() if p.requires_grad]
            total: Any = sum(losses)
            if parameters and total.requires_grad:
                torch.autograd.grad(total, parameters, allow_unused=True)
    finally:
        for hook in hooks:
            hook.remove()
        for layer, observe in before.items():
            layer.observe = observe
    return [call for call in calls if call.reached]


def _restart(layer: BinaryLayer) -> None:
    if layer.ags_statistics is not None:
        Statistics(*layer.ags_statistics.unbind()).calls.zero_()


def _take(call: _Call, g: Tensor, x: Tensor | None) -> None:
    """Take what the backward pass of a call has just recorded, with the directions of the probe if ``x`` is given."""
    call.reached = True
    layer = call.layer
    if layer.ags_statistics is not None:
        found = Statistics(*layer.ags_statistics.clone().unbind())
        call.statistics = found if found.calls > 0 else None
        _restart(layer)
    if x is not None:
        g_b = _gradient(layer, x, g, None)
        call.directions['g_b'] = g_b
        if layer.scale is not None:
            call.directions['g_a'] = _gradient(layer, x, g, FixedScale(1.0)) - g_b


def _gradient(layer: Any, x: Tensor, g: Tensor, scale: FixedScale | None) -> Tensor:
    """Return the gradient of a call at its input ``x`` for another rule of lambda."""
    before = layer.scale, layer.observe, layer.ags_warmup, layer.ags_statistics
    layer.scale, layer.observe, layer.ags_statistics = scale, False, None
    layer.ags_warmup = None if scale is None else torch.ones_like(before[2])
    try:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            y = layer.forward(x)
            return torch.autograd.grad(y, x, g.reshape(y.shape))[0]
    finally:
        layer.scale, layer.observe, layer.ags_warmup, layer.ags_statistics = before


def _noise(
    model: nn.Module, layers: Mapping[str, BinaryLayer], data_batch: Any
) -> dict[str, float | None]:
    """Return the noise of each layer whose latent weight is trained."""
    weights = {name: layer._parameters.get('weight') for name, layer in layers.items()}
    trained = {name: w for name, w in weights.items() if w is not None and w.requires_grad}
    halves = _halves(data_batch)
    if not trained or not halves:
        return {}
    gradients = []
    for half in halves:
        with losses_of_step(model, half) as losses:
            found = torch.autograd.grad(sum(losses), list(trained.values()), allow_unused=True)  # type: ignore[arg-type]
        gradients.append(found)
    return {
        name: finite(2 * norm(g_1 - g_2) / (norm(g_1) + norm(g_2)))
        for name, g_1, g_2 in zip(trained, *gradients, strict=True)
        if g_1 is not None and g_2 is not None
    }


def _halves(batch: Any) -> list[Any]:
    """Return the two halves of the images of a batch, none for a single image."""
    sizes: list[int] = []

    def cut(value: Any, second: bool) -> Any:
        if isinstance(value, Mapping):
            return {key: cut(item, second) for key, item in value.items()}
        if not isinstance(value, (Tensor, list, tuple)):
            return value
        sizes.append(len(value))
        middle = len(value) // 2
        return value[middle:] if second else value[:middle]

    fields = isinstance(batch, (list, tuple))  # images, labels
    halves = [[cut(f, i) for f in batch] if fields else cut(batch, i) for i in (False, True)]
    return halves if min(sizes, default=0) > 1 else []
