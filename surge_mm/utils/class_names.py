"""Names of the classes in a config, where a ``type`` is a name or, in configs of the new style, the class itself."""

from __future__ import annotations

from typing import Any


def class_name(kind: Any) -> str:
    """Return the name of a class or function without its scope or module, such as ``'Resize'``.

    Args:
        kind (Any): The value of a ``type`` in a config: ``'mmdet.Resize'``, or the class itself.
    """
    return kind.__name__ if callable(kind) else str(kind).rpartition('.')[2]
