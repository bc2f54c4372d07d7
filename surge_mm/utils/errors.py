"""Errors that the tools print as one line."""

import traceback
from pathlib import Path
from pickle import UnpicklingError


class UsageError(ValueError):
    """An argument or a file of the user is wrong. The message names it, what was expected, and what to do."""


class LaunchError(UsageError):
    """A config or an argument of a tool is wrong."""


class DatasetError(UsageError):
    """Data of a config is missing, is damaged, or does not match the config."""


class WriteError(OSError, UsageError):
    """A file cannot be written, for instance because the disk is full. ``errno`` is that of the cause."""

    def __str__(self) -> str:
        return str(self.strerror)


class CheckpointError(LaunchError, UnpicklingError):
    """A checkpoint is damaged or contains a call that is not allowed. Nothing of it was loaded."""


def describe_error(error: BaseException) -> str:
    """Return the type of an error and its message, or the line of code that raised it if it has no message."""
    text = str(error).strip()
    for frame in [] if text else traceback.extract_tb(error.__traceback__)[-1:]:
        text = f'{frame.line} ({Path(frame.filename).name}:{frame.lineno})'
    return f'{type(error).__name__}: {text}'
