"""Base of hooks that act on layers of a model."""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.runner import Runner

from surge_mm.layers import BinaryLayer
from surge_mm.utils.errors import UsageError
from surge_mm.utils.logging import warn


class LayerHook(Hook):
    """Hook for layers that the model may lack."""

    def report_no_layers(self, runner: Runner, message: str) -> None:
        """Raise an error, or warn where the Runner has a model without binary layers that is not that of its config.

        MMPretrain's ``vis_scheduler.py`` runs the hooks of a config with such a model.

        Args:
            runner (Runner): Runner of the training.
            message (str): What the model lacks, and what to do.

        Raises:
            UsageError: if the model is that of the config, or has binary layers.
        """
        message = f'{type(self).__name__}: {message}'
        binary = any(isinstance(module, BinaryLayer) for module in runner.model.modules())
        if binary or runner.cfg.get('model'):
            raise UsageError(message)
        warn(message)
