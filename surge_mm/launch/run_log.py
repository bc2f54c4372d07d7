"""Lines of the tools in the log of a run: findings before it, progress by time."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook, LoggerHook
from mmengine.runner import Runner

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
