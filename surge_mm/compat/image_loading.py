"""Errors of mmcv's ``LoadImageFromFile`` that name the image."""

from __future__ import annotations

import functools
from typing import Any

from surge_mm.utils.errors import DatasetError


def name_unreadable_images(loading: Any) -> None:
    """Let ``LoadImageFromFile`` name the image in its errors.

    Args:
        loading (ModuleType): ``mmcv.transforms.loading``.
    """
    load = loading.LoadImageFromFile.transform

    @functools.wraps(load)
    def load_or_name(self: Any, results: dict[str, Any]) -> dict[str, Any] | None:
        try:
            return load(self, results)
        except Exception as error:  # decoders raise many kinds for broken data
            reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
            raise DatasetError(
                f'image {results.get("img_path")!r} cannot be loaded: {reason[0]}. Run tools/check_data.py CONFIG to '
                'list all such images'
            ) from error

    loading.LoadImageFromFile.transform = load_or_name
