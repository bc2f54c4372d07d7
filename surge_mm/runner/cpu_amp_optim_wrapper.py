"""Mixed precision on a CPU, by an optimizer wrapper."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from surge_mm.registry import OPTIM_WRAPPERS
from surge_mm.utils.cpu_features import has_bfloat16_units
from surge_mm.utils.logging import warn


@OPTIM_WRAPPERS.register_module()
class CPUAmpOptimWrapper(OptimWrapper):
    """Train in bfloat16 on a CPU: the model and its losses run under ``torch.autocast('cpu', torch.bfloat16)``.

    MMEngine's ``AmpOptimWrapper`` needs a GPU. bfloat16 has the range of float32, so the loss is not scaled, and the
    wrapper saves no state beyond that of the optimizer. The arguments are those of MMEngine's ``OptimWrapper``. For a
    model on another device it has no effect, and on a CPU without AMX and AVX512_BF16 it takes longer than float32.
    Both are warnings here, as a config may move between machines; ``tools/train.py --amp`` is an error there.
    """

    _checked = False

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Enable autocast, and the context of ``OptimWrapper`` for accumulated gradients.

        Args:
            model (nn.Module): The model that is trained.
        """
        if not self._checked:
            self._checked = True
            self._check(next(model.parameters()).device)
        with super().optim_context(model), torch.autocast('cpu', torch.bfloat16):
            yield

    @staticmethod
    def _check(device: torch.device) -> None:
        if device.type != 'cpu':
            warn(
                f'CPUAmpOptimWrapper: the model is on {device}, where it trains in float32. Use AmpOptimWrapper there'
            )
        elif not has_bfloat16_units():
            warn(
                'CPUAmpOptimWrapper: this CPU has neither AMX nor AVX512_BF16, so that training in bfloat16 takes '
                "longer than in float32. Use optim_wrapper.type='OptimWrapper' unless the precision matters"
            )
