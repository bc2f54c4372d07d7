"""Lines of the tools in the log of a run: what was found in its data, what is binary, progress by time."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook, LoggerHook
from mmengine.runner import Runner
from torch import nn

from surge_mm.layers import BinaryLayer
from surge_mm.preflight.annotations import some

SECONDS = 60
"""Seconds between two lines of progress, where the logger is silent for longer."""


def log_findings(runner: Runner, lines: Sequence[str]) -> None:
    """Log what was found before the run, as one message, which is a warning if one of the lines is.

    Args:
        runner (Runner): the runner.
        lines (Sequence[str]): counts and warnings; warnings begin with ``warning:``.
    """
    if lines:
        has_warning = any(line.startswith('warning:') for line in lines)
        text = '\n'.join(f'  {line}' for line in lines)
        runner.logger.log(
            logging.WARNING if has_warning else logging.INFO, f'before the run:\n{text}'
        )


def describe_binary_layers(model: nn.Module) -> str:
    """Return a text on the convolutions and linear layers of each part of a model: how many are binary, and which not.

    Args:
        model (nn.Module): the model.
    """
    parts: dict[str, list[tuple[str, nn.Module]]] = defaultdict(list)
    for name, module in model.named_modules():
        if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)):
            part, _, rest = name.partition('.')
            parts[part].append((rest or part, module))
    layers: list[Any] = [module for inside in parts.values() for _, module in inside]
    binary = [layer for layer in layers if isinstance(layer, BinaryLayer)]
    weights = sum(layer.weight.numel() for layer in layers)
    of_binary = sum(layer.weight.numel() for layer in binary)
    lines = [
        f'{len(binary)} of {len(layers)} convolutions and linear layers are binary, with {of_binary:,} of {weights:,} '
        'weights (tools/get_ops.py prints the rule of each layer)'
    ]
    for part, inside in parts.items():
        kept = [name for name, module in inside if not isinstance(module, BinaryLayer)]
        full = f'; in full precision: {some(kept)}' if 0 < len(kept) < len(inside) else ''
        lines.append(f'  {part}: {len(inside) - len(kept)} of {len(inside)}{full}')
    return '\n'.join(lines)


class ProgressHook(Hook):
    """Log a line of progress once a minute on machines where the interval of ``LoggerHook`` takes longer."""

    priority = 'BELOW_NORMAL'

    def __init__(self) -> None:
        self.last = time.monotonic()

    def _after_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
        mode: str = 'train',
    ) -> None:
        intervals = [hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)]
        now = time.monotonic()
        is_last = self.end_of_epoch(getattr(runner, f'{mode}_dataloader'), batch_idx)
        if is_last or any(self.every_n_inner_iters(batch_idx, interval) for interval in intervals):
            self.last = now
        elif now - self.last >= SECONDS and is_main_process():
            self.last = now
            runner.logger.info(runner.log_processor.get_log_after_iter(runner, batch_idx, mode)[1])
