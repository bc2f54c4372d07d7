"""Messages to the user: MMEngine's logger where MMEngine is loaded, Python's ``logging`` elsewhere."""

from __future__ import annotations

import logging
import sys


def log(message: str, level: int = logging.INFO) -> None:
    """Log ``message`` to the current logger of MMEngine, or to the logger ``surge_mm`` where MMEngine is not loaded.

    Args:
        message (str): The text.
        level (int): A level of :mod:`logging`. Defaults to ``logging.INFO``.
    """
    if 'mmengine' in sys.modules:
        from mmengine.logging import print_log

        print_log(message, 'current', level)
    else:
        logging.getLogger('surge_mm').log(level, message)


def warn(message: str) -> None:
    """Log ``message`` as a warning."""
    log(message, logging.WARNING)
