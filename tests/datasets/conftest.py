"""Serves mmcv's operators before a test module imports mmdet."""

import surge_mm  # noqa: F401
