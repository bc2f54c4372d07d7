"""Reading of the pipeline of a dataset, and advice on a step to add to it."""

from __future__ import annotations

from typing import Any

from mmengine.config import ConfigDict

from surge_mm.utils.class_names import class_name

FILTER = "dict(type='mmdet.FilterAnnotations', min_gt_bbox_wh=(0, 0), keep_empty=False)"
"""The step that leaves out boxes without area."""


def step_of(config: ConfigDict, kind: str) -> dict[str, Any]:
    """Return the first step of a type in the pipeline of a dataset, or an empty dict.

    Args:
        config (ConfigDict): config of the dataset.
        kind (str): name of the type, without a scope.

    Returns:
        dict: config of the step.
    """
    return next(
        (step for step in config.get('pipeline', []) if class_name(step['type']) == kind), {}
    )


def advise_filter(key: str, config: ConfigDict) -> str:
    """Return the advice to leave out boxes without area, or nothing if the pipeline does or has no boxes.

    Args:
        key (str): config key of the dataset.
        config (ConfigDict): its config.

    Returns:
        str: the end of a warning.
    """
    kinds = [class_name(step['type']) for step in config.get('pipeline', [])]
    end = next((i for i, kind in enumerate(kinds) if kind.startswith('Pack')), len(kinds))
    if 'LoadAnnotations' not in kinds or kinds[end - 1] == 'FilterAnnotations':
        return ''
    return f'; to leave them out, insert {FILTER} at index {end} of {key}.pipeline'
