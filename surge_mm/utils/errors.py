"""The errors that the tools print as one line."""

from pickle import UnpicklingError


class UsageError(ValueError):
    """What a user asked for cannot work; the message names the argument, its value and the way out."""


class LaunchError(UsageError):
    """A config or an argument of a tool cannot work."""


class CheckpointError(LaunchError, UnpicklingError):
    """A checkpoint is damaged, or does what no checkpoint needs; nothing of it was loaded."""


class DatasetError(UsageError):
    """Data that a config names is missing, damaged or does not fit the config."""
