"""Priors of the heads of a detector, kept for each size of an image."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

SIZES_KEPT = 16
"""Image sizes whose priors are kept."""


class KeptPriors:
    """The priors of a head, made once for each size of its maps.

    Args:
        generator (Any): Prior generator of MMDetection. The object replaces its method ``grid_priors``.
    """

    def __init__(self, generator: Any) -> None:
        self.generator = generator
        self.kept: dict[tuple[Any, ...], list[Tensor]] = {}

    def __call__(
        self,
        featmap_sizes: Sequence[tuple[int, int]],
        dtype: torch.dtype = torch.float32,
        device: Any = 'cuda',
        **kwargs: Any,
    ) -> list[Tensor]:
        """Return the priors of each level.

        Args:
            featmap_sizes (Sequence[tuple[int, int]]): Height and width of the maps of each level.
            dtype (torch.dtype): Dtype of the priors. Defaults to torch.float32.
            device (Any): Their device. Defaults to 'cuda', as in the host.
            **kwargs (Any): Other arguments of the method.
        """
        make = functools.partial(type(self.generator).grid_priors, self.generator)
        if torch.jit.is_tracing():  # sizes are tensors
            return make(featmap_sizes, dtype=dtype, device=device, **kwargs)
        key = (*map(tuple, featmap_sizes), dtype, str(device), *sorted(kwargs.items()))
        priors = self.kept.get(key)
        if priors is None:
            with torch.inference_mode(False):
                priors = make(featmap_sizes, dtype=dtype, device=device, **kwargs)
            self.kept[key] = priors
            for oldest in list(self.kept)[:-SIZES_KEPT]:  # another thread may remove it too
                self.kept.pop(oldest, None)
        return list(priors)


def keep_priors(model: nn.Module) -> None:
    """Let the heads of a detector make their priors once for each size. Models of other hosts are left as they are.

    Args:
        model (nn.Module): The model.
    """
    for module in model.modules():
        generator = getattr(module, 'prior_generator', None)
        if hasattr(type(generator), 'grid_priors'):
            generator.grid_priors = KeptPriors(generator)  # type: ignore[union-attr]
