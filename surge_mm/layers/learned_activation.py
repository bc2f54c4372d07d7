"""Parameters of activation binarizers, and their start from the first training batch."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from surge_mm.ops import ActivationBinarizer, Elastic
from surge_mm.ops.chunking import is_transforming
from surge_mm.utils.errors import UsageError


class LearnedActivation(nn.Module):
    """Base of the modules with an activation binarizer: its parameters, if it has any.

    Attributes:
        activation (ActivationBinarizer): Q_x.
        activation_shift (Parameter, optional): Shift per feature, of binarizers with ``learned_shift``.
        activation_scale (Parameter, optional): Scale alpha, 0-dimensional, of binarizers with ``learned_scale``. It is
            1 until the first batch in training mode, from which it starts.
        activation_scale_bits (Tensor, optional): 0 until alpha has started, then the bits of the binarizer. It is part
            of the state dict, so a resumed training does not start alpha again, and one with other bits does.
        start_mask (Tensor, optional): True for the tokens of the next batch, ``(B, L)``; :func:`leave_out_padding` sets
            it until alpha has started.
    """

    activation: ActivationBinarizer
    activation_shift: nn.Parameter | None
    activation_scale: nn.Parameter | None
    activation_scale_bits: Tensor | None
    start_mask: Tensor | None = None
    _scale_is_checked = False

    def _init_activation(
        self, activation: dict[str, Any], shift_shape: tuple[int, ...], **options: Any
    ) -> None:
        self.activation = ActivationBinarizer.build(activation)
        for name in ('activation_shift', 'activation_scale'):
            self.register_parameter(name, None)
        self.register_buffer('activation_scale_bits', None)
        if self.activation.learned_shift:
            self.activation_shift = nn.Parameter(torch.empty(shift_shape, **options))
        if self.activation.learned_scale:
            self.activation_scale = nn.Parameter(torch.empty((), **options))
            bits = torch.empty((), device=options.get('device'), dtype=torch.int64)
            self.activation_scale_bits = bits
            _keep_start_out_of_graphs()

    @property
    def learns_activation(self) -> bool:
        """Whether the activation binarizer has a learned shift or scale."""
        return self.activation_shift is not None or self.activation_scale is not None

    @torch.no_grad()
    def _reset_activation(self) -> None:
        """Restart what the activation binarizer learns: shifts at 0, the scale at the next training batch."""
        if self.activation_shift is not None:
            self.activation_shift.zero_()
        if self.activation_scale is not None and self.activation_scale_bits is not None:
            self.activation_scale.fill_(1)
            self.activation_scale_bits.zero_()
            self._scale_is_checked = False

    @torch.no_grad()
    def _start_scale(self, x: Tensor) -> None:
        """Start the scale from ``x``, the first batch in training mode, unless it has started.

        With several ranks, it starts from the mean over the tokens of all their batches. Without a token, it starts
        at the next batch.

        Raises:
            UsageError: if the batch is not finite.
        """
        binarizer, bits = self.activation, self.activation_scale_bits
        assert isinstance(binarizer, Elastic) and bits is not None
        assert self.activation_scale is not None
        if x.is_meta or type(x) is not Tensor or is_transforming(x):
            return  # without values, as a FakeTensor
        if int(bits) != binarizer.bits:
            shift = 0 if self.activation_shift is None else self.activation_shift
            wide = torch.promote_types(x.dtype, torch.float32)
            values = _tokens(x + shift, self.start_mask).abs()
            total = torch.stack(
                [values.sum(dtype=wide), values.new_tensor(values.numel(), dtype=wide)]
            )
            if torch.distributed.is_available() and torch.distributed.is_initialized():
                # ranks may have other numbers of tokens, or none
                torch.distributed.all_reduce(total)
            if not total[1]:
                return
            mean = total[0] / total[1]
            if not mean.isfinite():
                raise UsageError(
                    f'{binarizer}: its scale starts from the first training batch, and the input of '
                    f'{type(self).__name__} in this batch is not finite. Check the data, the learning rate and the '
                    'weights that were loaded'
                )
            self.activation_scale.copy_(binarizer.first_scale(mean))
            bits.fill_(binarizer.bits)
        self._scale_is_checked, self.start_mask = True, None

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Load a state dict, of which the scale must be finite.

        Raises:
            UsageError: if it is not.
        """
        key = prefix + 'activation_scale'
        scale = state_dict.get(key, torch.ones(()))
        if not scale.is_meta and not scale.isfinite().all():
            raise UsageError(
                f'{key!r} of the checkpoint is {scale.flatten().tolist()}, and a scale must be finite. Use an earlier '
                'checkpoint, from before the training diverged'
            )
        self._scale_is_checked = False
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def leave_out_padding(model: nn.Module, mask: Tensor) -> None:
    """Leave out the padding of the next batch where it starts a scale. Call it before the forward pass of training.

    Args:
        model (nn.Module): Encoder of texts.
        mask (Tensor): True for the tokens that are no padding, ``(B, L)``.
    """
    for module in model.modules():
        learns = getattr(module, 'activation_scale', None) is not None
        if learns and isinstance(module, LearnedActivation) and not module._scale_is_checked:
            module.start_mask = mask


@contextmanager
def keep_starts(model: nn.Module) -> Iterator[None]:
    """Restore the scales that start within the block, so that they start at the next training batch again.

    Args:
        model (nn.Module): Model with learned scales, or without.
    """
    layers = [m for m in model.modules() if isinstance(m, LearnedActivation)]
    tensors = [
        (tensor, tensor.clone())
        for layer in layers
        for tensor in (layer.activation_scale, layer.activation_scale_bits)
        if tensor is not None
    ]
    flags = [(layer._scale_is_checked, layer.start_mask) for layer in layers]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, before in tensors:
                tensor.copy_(before)
        for layer, (checked, mask) in zip(layers, flags, strict=True):
            layer._scale_is_checked, layer.start_mask = checked, mask


def _tokens(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return the values of ``x`` at tokens: of hidden states ``(B, L, C)``, or of attention ``(B, heads, L, L)``."""
    if mask is None or len(x) != len(mask) or not mask.any():
        return x
    if x.dim() == 3 and x.shape[1] == mask.shape[1]:
        return x[mask]
    if x.dim() == 4 and x.shape[2:] == (mask.shape[1],) * 2:
        return x.transpose(0, 1)[:, mask[:, :, None] & mask[:, None, :]]
    return x


@functools.cache
def _keep_start_out_of_graphs() -> None:
    """Have compilers call ``_start_scale`` as it is. The decorator imports torch._dynamo, which takes 1 s."""
    start = torch.compiler.disable(LearnedActivation._start_scale)
    LearnedActivation._start_scale = start  # type: ignore[method-assign]
