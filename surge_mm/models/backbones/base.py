"""What the backbones share: they refuse the checkpoint of another network."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from mmengine.model import BaseModule

from surge_mm.checkpoint.matching import find_mismatches, named_tensors
from surge_mm.utils.errors import UsageError


class SurgeBackbone(BaseModule):
    """Base of the backbones. MMEngine would load what fits of another network's checkpoint, with warnings.

    Attributes:
        inner_convs (str): Pattern of the names of the weights that a checkpoint must bring: those of the convolutions
            that are binary or may be.
    """

    inner_convs: ClassVar[str]

    @property
    def network(self) -> str:
        """What this network is called in messages."""
        return type(self).__name__

    def _is_mine(self, name: str) -> bool:
        """Whether a convolution of that name in a checkpoint must have its place here."""
        return True

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Load it as torch does, or refuse it before anything is loaded.

        A state dict without any convolution of a backbone passes: that of a head alone, for instance.

        Raises:
            UsageError: convolutions are missing or have no place here, or weights have another shape.
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
