"""Logging that works with and without MMEngine."""

from __future__ import annotations

import logging


def log(message: str, level: int = logging.INFO) -> None:
    """Log to MMEngine's current logger, or to the logger ``surge_mm`` if MMEngine is not installed.

    Args:
        message (str): Text of the record.
        level (int): Level of Python's ``logging``. Defaults to ``logging.INFO``.
    """
    try:
        from mmengine.logging import print_log
    except ImportError:
        logging.getLogger('surge_mm').log(level, message)
    else:
        print_log(message, 'current', level)
