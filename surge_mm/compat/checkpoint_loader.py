"""Load checkpoints of MMEngine under ``weights_only=True``."""

import mmengine.runner.checkpoint as mmengine_checkpoint
import torch
from mmengine.runner.checkpoint import CheckpointLoader

from surge_mm.checkpoint.safe_globals import SAFE_GLOBALS
from surge_mm.checkpoint.safe_loading import load_from_file, load_from_url, warn_if_unprotected


def allow_mmengine_checkpoints() -> None:
    """Allow ``torch.load(weights_only=True)`` to read the training log in a checkpoint of MMEngine."""
    torch.serialization.add_safe_globals(SAFE_GLOBALS)


def replace_checkpoint_loader() -> None:
    """Make MMEngine load files and URLs by :mod:`surge_mm.checkpoint.safe_loading`."""
    warn_if_unprotected()
    CheckpointLoader.register_scheme('', load_from_file, force=True)
    mmengine_checkpoint.load_url = load_from_url
