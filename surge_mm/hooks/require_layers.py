"""What a hook does where the model has no layer for it."""

from __future__ import annotations

from mmengine.runner import Runner

from surge_mm.layers import BinaryLayer
from surge_mm.utils.errors import UsageError
from surge_mm.utils.logging import warn


def report_no_layers(runner: Runner, message: str) -> None:
    """Raise an error, or warn where the Runner has a model without binary layers that is not that of its config.

    MMPretrain's ``vis_scheduler.py`` runs the hooks of a config with such a model.

    Args:
        runner (Runner): Runner of the training.
        message (str): What the model lacks, and what to do.

    Raises:
        UsageError: if the model is that of the config, or has binary layers.
    """
    binary = any(isinstance(module, BinaryLayer) for module in runner.model.modules())
    if binary or runner.cfg.get('model'):
        raise UsageError(message)
    warn(message)
