"""The latent weight of a binary layer, and what other code does to the weight of a layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from surge_mm.ops import WeightBinarizer


class LatentWeight(nn.Module):
    """Base of :class:`.BinaryLayer` that refuses changes of the latent weight that its binary weight does not follow.

    Attributes:
        weight_binarizer (WeightBinarizer): Q_W, which makes the binary weight of the latent one.
    """

    weight: Tensor
    weight_binarizer: WeightBinarizer

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; a batch norm fused into the weight is an error where the result would be wrong.

        Such tools set ``weight``, scaled per filter, and then ``bias``: ``mmcv.cnn.fuse_conv_bn`` and those of
        :mod:`torch.nn.utils.fusion`.
        """
        if name == 'weight' and isinstance(value, nn.Parameter):
            vars(self)['_unfused'] = self.weight if self._is_scaled_wrongly(value) else None
        elif name == 'bias' and isinstance(value, nn.Parameter):
            unfused = vars(self).pop('_unfused', None)
            if unfused is not None:
                self._parameters['weight'] = unfused
                raise RuntimeError(
                    f'{type(self).__name__}({super().extra_repr()}): a batch norm cannot be fused into latent weights '
                    f'of {self.weight_binarizer}, since the binary weights do not scale with them. The layer is '
                    'unchanged. Do not fuse: surge_mm.deploy.pack folds batch norms exactly'
                )
        super().__setattr__(name, value)

    def _is_scaled_wrongly(self, new: nn.Parameter) -> bool:
        """Whether ``new`` is ``weight`` times a factor per filter, by which the binary weights are not multiplied."""
        old = self._parameters.get('weight')
        if old is None or new.shape != old.shape or old[0].numel() < 2:
            return False
        if old.is_meta or type(new.data) is not Tensor:  # without values, as a FakeTensor
            return False
        with torch.no_grad():
            axes = tuple(range(1, old.dim()))
            factor = ((old * new).sum(axes, True) / (old * old).sum(axes, True)).nan_to_num()
            rounding = 8 * torch.finfo(old.dtype).eps * float(new.abs().max())
            if not torch.allclose(new, factor * old, rtol=0, atol=rounding):
                return False
            expected = factor * self.weight_binarizer(old)
            return not torch.allclose(self.weight_binarizer(new), expected, 1e-3, rounding)
