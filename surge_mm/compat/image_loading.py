"""Errors of mmcv's ``LoadImageFromFile`` that name the image."""

from __future__ import annotations

import functools
from typing import Any

from mmcv.transforms import LoadImageFromFile

from surge_mm.utils.errors import DatasetError

_load = LoadImageFromFile.transform


@functools.wraps(_load)
def _load_or_name(self: LoadImageFromFile, results: dict[str, Any]) -> dict[str, Any] | None:
    try:
        return _load(self, results)
    except Exception as error:  # decoders raise many kinds for broken data
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise DatasetError(
            f'image {results.get("img_path")!r} cannot be loaded: {reason[0]}. Run tools/check_data.py CONFIG to list '
            'all such images'
        ) from error


def name_unreadable_images() -> None:
    """Let ``LoadImageFromFile`` name the image in its errors."""
    LoadImageFromFile.transform = _load_or_name
