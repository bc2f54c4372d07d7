"""The cost of each layer or block of a trained full-precision model when it alone becomes binary, without training.

Replacing one layer by its binary form changes the scale of its output and the statistics of the norms behind it. A
measurement without correction shows that collapse alone. Therefore both are estimated again on a few training images:

- Each filter c of the binary layer is multiplied by ``sum(y_b y) / sum(y_b^2)``, over images and positions, with the
  outputs ``y_b`` of the binary and ``y`` of the full-precision layer for the same input: the least-squares fit.
- Batch norms compute their running statistics anew, as the mean over the batches.

All other layers, and ReLU, stay as they are. The sign of 0 is -1 here, so behind a ReLU the signs are those of its
input, as behind the leaky ReLU that replaces it in training (:func:`surge_mm.binarize`).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import mmcv.cnn
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from surge_mm.layers import SurgeLinear
from surge_mm.models.binarization.binarize import binarize
from surge_mm.models.binarization.rules import KEEP

BELOW_ZERO = -1e-30
"""Shift of the inputs of a binary layer, which makes the sign of 0 negative and changes no other sign."""
ALONE = {'activation': {'type': 'RSign'}, 'compensator': None}
Names = tuple[str, ...]
Batches = Sequence[dict[str, Any]]


def group_by_block(model: nn.Module, layers: Sequence[Names]) -> dict[str, list[Names]]:
    """Join layers with the same parent module. The parent of a layer in a ``ConvModule`` is that of the latter.

    Args:
        model (nn.Module): The model.
        layers (Sequence[tuple[str, ...]]): All names of each layer.

    Returns:
        dict[str, list[tuple[str, ...]]]: The layers by the name of the block.
    """
    blocks: dict[str, list[Names]] = {}
    for names in layers:
        block = names[0].rpartition('.')[0]
        if isinstance(model.get_submodule(block), mmcv.cnn.ConvModule):
            block = block.rpartition('.')[0]
        blocks.setdefault(block or names[0], []).append(names)
    return blocks


def binarize_alone(model: nn.Module, layers: Sequence[Names], batches: Batches) -> nn.Module:
    """Return a calibrated copy of a full-precision model in which some layers are binary.

    Args:
        model (nn.Module): The full-precision model.
        layers (Sequence[tuple[str, ...]]): All names of each layer to binarize. Without a layer, the full-precision
            model is calibrated.
        batches (Sequence[dict]): Preprocessed batches of training images.

    Returns:
        nn.Module: The copy.
    """
    alone = copy.deepcopy(model)
    if layers:
        rules = [{'name': name, 'to': 'binary'} for names in layers for name in names]
        binarize(alone, [*rules, {'to': KEEP}], ALONE, binary_act_cfg=None)
    for names in layers:
        layer: Any = alone.get_submodule(names[0])
        nn.init.constant_(layer.activation_shift, BELOW_ZERO)
        fit_scale(alone, layer, copy.deepcopy(model.get_submodule(names[0])), batches)
    estimate_norms(alone, batches)
    return alone


def fit_scale(model: nn.Module, layer: Any, reference: nn.Module, batches: Batches) -> None:
    """Multiply each filter of a binary layer by the factor that fits its output best to that of another layer.

    Args:
        model (nn.Module): The model that contains ``layer``.
        layer (BinaryLayer): The binary layer. Its weight is changed in place.
        reference (nn.Module): The full-precision layer.
        batches (Sequence[dict]): Preprocessed batches.
    """
    axis = -1 if isinstance(layer, SurgeLinear) else 1
    sums: list[Tensor] = []

    def add(_: nn.Module, inputs: Any, output: Tensor) -> None:
        bias: Any = 0 if layer.bias is None else layer.bias
        y_b, y = (z.movedim(axis, -1) - bias for z in (output, reference(inputs[0])))
        others = tuple(range(y.ndim - 1))
        sums.append(torch.stack([(y_b * y).sum(others), (y_b * y_b).sum(others)]).double())

    handle = layer.register_forward_hook(add)
    run_network(model, batches)
    handle.remove()
    dot, norm = torch.stack(sums).sum(0)
    scale = (dot / norm.clamp(min=1e-12)).to(layer.weight)
    layer.weight.data.mul_(scale.view(-1, *[1] * (layer.weight.ndim - 1)))


def estimate_norms(model: nn.Module, batches: Batches) -> None:
    """Compute the running statistics of all batch norms anew, as the mean over batches.

    Args:
        model (nn.Module): The model, changed in place.
        batches (Sequence[dict]): Preprocessed batches.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    run_network(model, batches, update_norms=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def training_loss(model: nn.Module, batches: Batches) -> float:
    """Return the mean training loss over batches, with the running statistics of batch norms.

    Args:
        model (nn.Module): The model. It is left in evaluation mode.
        batches (Sequence[dict]): Preprocessed batches.
    """
    losses = run_network(model, batches)
    return sum(losses) / len(losses)


@torch.no_grad()
def run_network(model: Any, batches: Batches, update_norms: bool = False) -> list[float]:
    """Run a model on batches with the same random numbers at each call, and return the loss of each batch.

    The model is in training mode, as some heads encode boxes otherwise in evaluation. It is left in evaluation mode.

    Args:
        model (BaseModel): A model of MMEngine.
        batches (Sequence[dict]): Preprocessed batches.
        update_norms (bool): Whether batch norms are in training mode too. Defaults to False.
    """
    model.train()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.train(update_norms)
    losses = []
    with torch.random.fork_rng():  # samplers of two-stage detectors
        torch.manual_seed(0)
        for batch in batches:
            # some heads change the samples
            loss, _ = model.parse_losses(model(**copy.deepcopy(batch), mode='loss'))
            losses.append(float(loss))
    model.eval()
    return losses
