"""The errors that the tools print as one line."""


class UsageError(ValueError):
    """What a user asked for cannot work; the message names the argument, its value and the way out."""


class LaunchError(UsageError):
    """A config or an argument of a tool cannot work."""
