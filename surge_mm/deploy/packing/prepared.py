"""Modules that keep their tensors in another form for the compiled loops: :class:`PreparedModule`."""

from __future__ import annotations

from typing import Any

from torch import nn


class PreparedModule(nn.Module):
    """A module whose tensors are prepared once, in ``_prepared``, and again after they have changed.

    Attributes:
        n_dropped (int): How often a module of this process has dropped what it had prepared. As long as the number
            stays, what any of them has prepared stays.
    """

    n_dropped = 0

    def __init__(self) -> None:
        super().__init__()
        self._prepared: Any = None

    def drop_prepared(self) -> None:
        """Have the tensors prepared again at the next call."""
        self._prepared = None
        PreparedModule.n_dropped += 1

    def _apply(self, fn: Any, recurse: bool = True) -> PreparedModule:
        self.drop_prepared()
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.drop_prepared()
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_prepared': None}
