"""Load checkpoints of MMEngine under ``weights_only=True``."""

from typing import Any

import torch

from surge_mm.checkpoint.safe_globals import SAFE_GLOBALS
from surge_mm.checkpoint.safe_loading import load_from_file, load_from_url, warn_if_unprotected


def allow_mmengine_checkpoints() -> None:
    """Allow ``torch.load(weights_only=True)`` to read the training log in a checkpoint of MMEngine."""
    torch.serialization.add_safe_globals(SAFE_GLOBALS)


def replace_checkpoint_loader(checkpoint: Any) -> None:
    """Make MMEngine load files and URLs by :mod:`surge_mm.checkpoint.safe_loading`.

    Args:
        checkpoint (ModuleType): ``mmengine.runner.checkpoint``.
    """
    warn_if_unprotected()
    checkpoint.CheckpointLoader.register_scheme('', load_from_file, force=True)
    checkpoint.load_url = load_from_url
