"""The option ``--amp`` of the training tool."""

from __future__ import annotations

import torch
from mmengine.config import Config

from surge_mm.utils.cpu_features import has_bfloat16_units
from surge_mm.utils.errors import LaunchError

OF_GPUS = ('loss_scale', 'dtype', 'use_fsdp')
"""Arguments of MMEngine's ``AmpOptimWrapper`` that ``OptimWrapper`` lacks."""


def use_mixed_precision(cfg: Config) -> None:
    """Set the optimizer wrapper of mixed precision: that of MMEngine on a GPU, bfloat16 on a CPU.

    Args:
        cfg (Config): config of a run, changed in place.

    Raises:
        LaunchError: without a GPU, if the CPU has no unit for bfloat16, or the config asks for another dtype.
    """
    wrapper = cfg.get('optim_wrapper')
    if not wrapper:  # the Runner reports it
        return
    if torch.cuda.is_available():
        wrapper.type = 'AmpOptimWrapper'
        wrapper.setdefault('loss_scale', 'dynamic')
        return
    if not has_bfloat16_units():
        raise LaunchError(
            '--amp: there is no GPU, and this CPU has neither AMX nor AVX512_BF16, so that training in bfloat16 would '
            'be slower than in float32; omit --amp'
        )
    given = {key: wrapper.pop(key, None) for key in OF_GPUS}
    if given['dtype'] not in (None, 'bfloat16', torch.bfloat16):
        raise LaunchError(
            f'--amp: optim_wrapper.dtype={given["dtype"]!r} is for GPUs; on a CPU, --amp trains in bfloat16. Remove '
            'dtype or set it to bfloat16'
        )
    wrapper.type = 'surge_mm.CPUAmpOptimWrapper'
