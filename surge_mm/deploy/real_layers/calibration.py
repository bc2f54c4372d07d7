"""Ranges of the inputs of layers, measured on images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from surge_mm.deploy.real_layers.quantization import Range, best_range

SAMPLES = 4096
"""Numbers that are sampled from each input of a layer."""


class InputStatistics:
    """Smallest and largest input of a layer, and samples of it. An instance is a forward pre-hook."""

    def __init__(self) -> None:
        self.low, self.high, self.finite = 0.0, 0.0, True
        self.samples: list[Tensor] = []

    def __call__(self, layer: nn.Module, args: tuple[Any, ...]) -> None:
        if not args or not args[0].numel():
            return
        x = args[0].detach().float()
        values = (x.permute(0, 2, 3, 1) if x.dim() == 4 else x).reshape(-1)
        low, high = map(float, values.aminmax())
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.finite = self.finite and math.isfinite(high - low)
        step = max(1, len(values) // SAMPLES) | 1  # odd, so that the samples are of all channels
        self.samples.append(values[::step].clone())

    def range(self) -> Range | None:
        """Return the range with the least squared error; None if there was no input, or one was not finite."""
        if not self.samples or not self.finite:
            return None
        return best_range(torch.cat(self.samples), self.low, self.high)


@torch.inference_mode()
def measure_ranges(
    model: Any, layers: Mapping[str, nn.Module], batches: Iterable[Any]
) -> dict[str, Range | None]:
    """Run a model on images, and return the range of the input of each layer.

    Args:
        model (nn.Module): The model, in evaluation mode.
        layers (Mapping[str, nn.Module]): Layers of the model by name.
        batches (Iterable): As ``calibration`` of :func:`surge_mm.deploy.pack`.

    Returns:
        dict[str, Range | None]: None for a layer that no image reached, or whose inputs were not all finite.
    """
    statistics = {name: InputStatistics() for name in layers}
    handles = [layer.register_forward_pre_hook(statistics[name]) for name, layer in layers.items()]
    try:
        for batch in batches:
            model(batch) if torch.is_tensor(batch) else model.test_step(batch)
    finally:
        for handle in handles:
            handle.remove()
    return {name: found.range() for name, found in statistics.items()}
