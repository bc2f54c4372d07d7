"""Strict loading of checkpoints, and the base class of the backbones of images."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from mmengine.model import BaseModule

from surge_mm.checkpoint.matching import find_mismatches, named_tensors
from surge_mm.utils.errors import UsageError


class StrictLoading:
    """Mixin that precedes ``BaseModule``. Loading the state dict of another network is an error.

    MMEngine loads the weights of another network that match, and logs a warning about the others.

    Attributes:
        inner (str): Regular expression of the tensors that a state dict must contain.
        part (str): What precedes the names of the network in a whole model.
        sizes (str): Arguments that set the sizes, for the error message.
    """

    inner: ClassVar[str]
    part: ClassVar[str]
    sizes: ClassVar[str]

    @property
    def network(self) -> str:
        """Name of the network in error messages."""
        return type(self).__name__

    def _is_mine(self, name: str) -> bool:
        """Return whether a tensor of a state dict that matches ``inner`` must be part of this network."""
        return True

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Load the tensors of this module, after all names and shapes are checked.

        A state dict that has neither tensors of ``inner`` nor convolutions is accepted, for instance that of a head.

        Raises:
            UsageError: if a tensor of ``inner`` is missing or unexpected, or a tensor has another shape.
        """
        theirs = {k.removeprefix(prefix): v for k, v in state_dict.items() if k.startswith(prefix)}
        inner = [name for name in theirs if re.fullmatch(self.inner, name)]
        nested = not inner and any(name.startswith(self.part) for name in theirs)
        is_network = inner or nested or any(getattr(v, 'ndim', 0) == 4 for v in theirs.values())
        own = named_tensors(self)  # type: ignore[arg-type]
        mismatches = find_mismatches(
            own,
            state_dict,
            prefix=prefix,
            required=[name for name in own if is_network and re.fullmatch(self.inner, name)],
            unexpected=[name for name in inner if name not in own and self._is_mine(name)],
        )
        if mismatches:
            advice = f'Set {self.sizes} to those of the checkpoint, or use another checkpoint'
            if nested:
                advice = f'Its names begin with {self.part!r}: add prefix={self.part!r} to init_cfg'
            raise UsageError(
                f'the checkpoint does not match {self.network} in {len(mismatches)} tensors, first: {mismatches[0]}. '
                f'{advice}'
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)  # type: ignore[misc]


class SurgeBackbone(StrictLoading, BaseModule):
    """Base class of the backbones whose binary convolutions are set by ``conv_cfg``.

    A state dict must contain all convolutions that can be binary.
    """

    part = 'backbone.'
    sizes = 'depth and base_channels'
