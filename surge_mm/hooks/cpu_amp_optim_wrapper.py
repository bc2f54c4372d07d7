"""Mixed precision on a CPU, by an optimizer wrapper."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from surge_mm.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """Train in bfloat16 on a CPU: the model and its losses run under ``torch.autocast('cpu', torch.bfloat16)``.

    MMEngine's ``AmpOptimWrapper`` needs a GPU. bfloat16 has the range of float32, so the loss is not scaled, and the
    wrapper saves no state beyond that of the optimizer. The arguments are those of MMEngine's ``OptimWrapper``.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Enable autocast, and the context of ``OptimWrapper`` for accumulated gradients.

        Args:
            model (nn.Module): The model that is trained.
        """
        with super().optim_context(model), torch.autocast('cpu', torch.bfloat16):
            yield
