"""The latent weight of a binary layer, and what other code does to the weight of a layer."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from surge_mm.ops import Real, WeightBinarizer
from surge_mm.utils.errors import describe_error
from surge_mm.utils.logging import warn


class LatentWeight(nn.Module):
    """Base of :class:`.BinaryLayer` that refuses changes of the latent weight that its binary weight does not follow.

    Attributes:
        weight_binarizer (WeightBinarizer): Q_W, which makes the binary weight of the latent one.
    """

    weight: Tensor
    weight_binarizer: WeightBinarizer

    @property
    @abstractmethod
    def smallest_input(self) -> tuple[int, ...]:
        """The shape of the smallest input."""

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

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Register a buffer; a mask of ``torch.nn.utils.prune`` on binary weights is an error.

        Args:
            name (str): As for :class:`torch.nn.Module`.
            tensor (Tensor, optional): As for :class:`torch.nn.Module`.
            persistent (bool): As for :class:`torch.nn.Module`. Defaults to True.
        """
        if name == 'weight_mask' and not isinstance(self.weight_binarizer, Real):
            raise RuntimeError(
                f'{type(self).__name__}({super().extra_repr()}): pruning sets latent weights to 0, and the sign of 0 '
                'is +1, so no connection is removed. Leave binary layers out of the parameters to prune'
            )
        super().register_buffer(name, tensor, persistent)

    def effective_weight(self) -> Tensor:
        """Return the latent weight of the next forward pass in evaluation.

        It is ``weight``, unless a forward pre-hook computes ``weight``, as ``torch.nn.utils.spectral_norm`` and
        ``weight_norm`` do. ``weight`` is then that of the last forward pass, which a loaded state dict does not change.
        Therefore a layer with forward pre-hooks is run once, on the smallest input that it accepts.
        """
        modes = {module: module.training for module in self.modules()}
        for module in modes:
            module.training = False  # in training, each read of spectral_norm updates its vectors
        try:
            if self._forward_pre_hooks:
                self._run_hooks()
            return self.weight
        finally:
            for module, mode in modes.items():
                module.training = mode

    @torch.no_grad()
    def _run_hooks(self) -> None:
        like = next(self.parameters())
        try:
            self(torch.zeros(self.smallest_input, device=like.device, dtype=like.dtype))
        except Exception as error:  # a hook that needs other values or another shape
            warn(
                f'{type(self).__name__}({super().extra_repr()}): its forward pre-hooks do not run on zeros of shape '
                f'{self.smallest_input} ({describe_error(error)}). If one of them computes the weight, run the '
                'model once in evaluation before it is packed or exported'
            )
