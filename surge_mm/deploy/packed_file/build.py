"""Build of a packed model from the config of a packed file."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping
from typing import Any

from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from surge_mm.deploy.convert import pack
from surge_mm.utils.errors import UsageError
from surge_mm.utils.registry_errors import explain

MAX_MESSAGE = 1000
"""Characters of a message. Those of PyTorch and of the hosts may contain whole arguments."""
_build_lock = threading.RLock()  # the default scope is one for all threads


def build_packed(config: Mapping[str, Any]) -> nn.Module:
    """Build the packed model of a checked config. Its numbers are arbitrary until a state dict is loaded.

    Args:
        config (dict): Config as :func:`surge_mm.deploy.packed_file.config.stored_config` returns it.

    Raises:
        UsageError: if the model cannot be built or packed.
    """
    try:
        with _build_lock, DefaultScope.overwrite_default_scope(config['default_scope']):
            model = MODELS.build(copy.deepcopy(ConfigDict(config['model'])))
        return pack(model)
    except Exception as error:  # classes of the hosts raise anything for wrong arguments
        message = ' '.join(explain(error).split())
        raise UsageError(f'its model cannot be built: {message:.{MAX_MESSAGE}}') from error
