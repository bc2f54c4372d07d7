"""Errors that the tools print as one line."""

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
