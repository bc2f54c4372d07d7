"""Check that optional packages are installed."""

from __future__ import annotations

from importlib.util import find_spec

from surge_mm.utils.errors import UsageError


def require_packages(extra: str, *names: str) -> None:
    """Check that the packages of an extra of surge_mm are installed.

    Args:
        extra (str): Name of the extra.
        *names (str): Names of the packages.

    Raises:
        UsageError: if one is missing.
    """
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise UsageError(
            f'{" and ".join(missing)} must be installed: pip install "surge_mm[{extra}]"'
        )
