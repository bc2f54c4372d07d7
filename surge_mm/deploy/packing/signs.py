"""What packed layers hand to one another: sign bits, real values, or both."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Signs(NamedTuple):
    """Sign bits of the input of a layer, in images that are padded for that layer.

    Attributes:
        words (Tensor): ``(N, words of a padded image)``, int32.
        size (tuple[int, int]): Height and width of the image without padding, in pixels.
    """

    words: Tensor
    size: tuple[int, int]


class LayerOutput(NamedTuple):
    """Output of a packed layer.

    Attributes:
        values (Tensor, optional): ``(N, C_out, H', W')``. None if only the signs were asked for and made.
        signs (Signs, optional): The sign bits for the layer that follows. None if this layer did not make them.
    """

    values: Tensor | None
    signs: Signs | None

    def input(self) -> Tensor | Signs:
        """Return what the following layer reads: the signs if there are any, else the values."""
        if self.signs is not None:
            return self.signs
        assert self.values is not None
        return self.values
