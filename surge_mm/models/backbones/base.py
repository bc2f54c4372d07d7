"""Base class of the backbones, with strict loading of checkpoints."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from mmengine.model import BaseModule

from surge_mm.checkpoint.matching import find_mismatches, named_tensors
from surge_mm.utils.errors import UsageError


class SurgeBackbone(BaseModule):
    """Base class of the backbones. Loading the state dict of another network is an error.

    MMEngine loads the weights of another network that match, and logs a warning about the others.

    Attributes:
        inner_convs (str): Regular expression of the weights that a state dict must contain: those of all convolutions
            that can be binary.
    """

    inner_convs: ClassVar[str]

    @property
    def network(self) -> str:
        """Name of the network in error messages."""
        return type(self).__name__

    def _is_mine(self, name: str) -> bool:
        """Return whether a convolution ``name`` of a state dict must be part of this network."""
        return True

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Load the tensors of this module, after all shapes are checked.

        A state dict without convolutions is accepted, for instance that of a head.

        Raises:
            UsageError: if a convolution is missing or unexpected, or a tensor has another shape.
        """
        theirs = [  # convolutions of the checkpoint
            key.removeprefix(prefix)
            for key, value in state_dict.items()
            if key.startswith(prefix) and getattr(value, 'ndim', 0) == 4
        ]
        inner = [name for name in theirs if re.fullmatch(self.inner_convs, name)]
        own = named_tensors(self)
        mismatches = find_mismatches(
            own,
            state_dict,
            prefix=prefix,
            required=[name for name in own if theirs and re.fullmatch(self.inner_convs, name)],
            unexpected=[name for name in inner if name not in own and self._is_mine(name)],
        )
        if mismatches:
            advice = (
                'Set depth and base_channels to those of the checkpoint, or use another checkpoint'
            )
            if not inner and any(name.startswith('backbone.') for name in theirs):
                advice = "Its names begin with 'backbone.': add prefix='backbone.' to init_cfg"
            raise UsageError(
                f'the checkpoint does not match {self.network} in {len(mismatches)} tensors, first: {mismatches[0]}. '
                f'{advice}'
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
