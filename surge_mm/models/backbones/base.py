"""What the backbones share: they refuse the checkpoint of another network."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from mmengine.model import BaseModule
from torch import Tensor

from surge_mm.checkpoint.matching import misfits
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
        theirs: dict[str, Tensor] = {
            key.removeprefix(prefix): value
            for key, value in state_dict.items()
            if key.startswith(prefix) and getattr(value, 'ndim', 0) == 4
        }
        mine = {
            name: p
            for name, p in self.named_parameters()
            if p.ndim == 4 and re.fullmatch(self.inner_convs, name)
        }
        inner = {
            name: value for name, value in theirs.items() if re.fullmatch(self.inner_convs, name)
        }
        wrong = [
            f'{prefix}{name} is {tuple(value.shape)} there and '
            f'{tuple(mine[name].shape) if name in mine else "no such layer"} here'
            for name, value in inner.items()
            if self._is_mine(name) and (name not in mine or mine[name].shape != value.shape)
        ]
        missing = [f'it lacks {prefix}{name}' for name in mine if name not in inner]
        if theirs and (wrong or missing):
            hint = (
                'Set depth and base_channels to those of the checkpoint, or take another checkpoint'
            )
            if not inner and any(key.startswith('backbone.') for key in theirs):
                hint = "Its names begin with 'backbone.': add prefix='backbone.' to init_cfg"
            raise UsageError(
                f'the checkpoint does not fit {self.network} in {len(wrong) + len(missing)} of {len(mine)} '
                f'convolutions: {(wrong + missing)[0]}. {hint}'
            )
        wrong = misfits(self, state_dict, prefix)
        if wrong:
            raise UsageError(
                f'the checkpoint does not fit {self.network} in {len(wrong)} weights: {wrong[0]}. Take another one'
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
