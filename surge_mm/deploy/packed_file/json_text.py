"""JSON of configs. It has no tuples, which the hosts distinguish from lists; ``{"()": [...]}`` is a tuple."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

TUPLE = '()'


def to_json(stored: Mapping[str, Any]) -> str:
    """Return a stored config as text.

    Args:
        stored (Mapping[str, Any]): Config of a packed file.
    """

    def encoded(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: encoded(inner) for key, inner in value.items()}
        if isinstance(value, tuple):
            return {TUPLE: [encoded(inner) for inner in value]}
        return [encoded(inner) for inner in value] if isinstance(value, list) else value

    return json.dumps(encoded(stored), separators=(',', ':'))


def from_json(text: str) -> Any:
    """Return the config that :func:`to_json` has converted.

    Args:
        text (str): The text.

    Raises:
        ValueError: if the text is no JSON.
    """

    def decoded(pairs: dict[str, Any]) -> Any:
        inner = pairs.get(TUPLE)
        return tuple(inner) if len(pairs) == 1 and isinstance(inner, list) else pairs

    return json.loads(text, object_hook=decoded)
