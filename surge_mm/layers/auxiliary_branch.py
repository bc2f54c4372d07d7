"""The full-precision auxiliary branch of a binary layer: its weights, its rule for lambda and its statistics."""

from __future__ import annotations

import ctypes
import zlib
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from surge_mm.layers.compensator import parse_compensator
from surge_mm.layers.latent_weight import LatentWeight
from surge_mm.ops import GradientScale, Statistics

A = TypeVar('A', bound='AuxiliaryBranch')


class AuxiliaryBranch(LatentWeight):
    """Base of :class:`.BinaryLayer`: the auxiliary weights W_a, of the shape of the latent weights W_b.

    With ``init='copy'``, W_a starts as a copy of W_b. The copy is taken at construction, by :meth:`reset_parameters`
    and by loading a state dict without ``aux_weight``. Until the first backward pass, :meth:`train` and
    :meth:`state_dict` take it again: W_a starts from what ``init_weights`` did to ``weight``. Other values that a
    program has written to ``aux_weight`` are kept; with several ranks, only those that a state dict has brought, since
    the broadcast of DistributedDataParallel writes to it too.

    Attributes:
        aux_weight (Parameter | None): W_a; None without a compensator and for a tied one.
        scale (GradientScale | None): The rule for lambda.
        tied (bool): Whether W_a is W_b itself, which the branch then does not train.
        frozen (bool): Whether W_a stays as it was drawn.
        branch_dtype (torch.dtype | None): The dtype of the products of the branch; None for that of the binary path.
        ags_warmup (Tensor): 0-dimensional factor of lambda.
        ags_statistics (Tensor): What the last backward pass recorded, or the mean of passes that observe:
            the fields of :class:`surge_mm.ops.Statistics`.
    """

    aux_weight: nn.Parameter | None
    ags_warmup: Tensor | None
    ags_statistics: Tensor | None
    _copied: int | None = None
    """Checksum of the copy; None where W_a has values of its own."""

    def _init_branch(self, compensator: dict[str, Any] | None) -> None:
        self.scale: GradientScale | None = None
        self.tied = self.frozen = False
        self.branch_dtype: torch.dtype | None = None
        self._aux_init = 'copy'
        self._copied = None
        self.register_parameter('aux_weight', None)
        for name in ('ags_warmup', 'ags_statistics'):
            self.register_buffer(name, None, persistent=False)
        if compensator is None:
            return
        try:
            parsed = parse_compensator(compensator)
        except ValueError as error:
            called = f'{type(self).__name__}({super().extra_repr()})'
            raise ValueError(f'{called}: {error}') from error
        self.scale, self._aux_init = parsed.scale, parsed.init
        self.tied, self.frozen = parsed.tied, parsed.frozen
        if parsed.dtype is not None:
            self.branch_dtype = getattr(torch, parsed.dtype)
        options: dict[str, Any] = {'device': self.weight.device, 'dtype': torch.float32}
        self.ags_warmup = torch.empty((), **options)
        self.ags_statistics = torch.empty(len(Statistics._fields), **options)
        if not self.tied:
            aux_weight = torch.empty_like(self.weight)
            self.aux_weight = nn.Parameter(aux_weight, requires_grad=not self.frozen)

    def _reset_branch(self) -> None:
        """Restart W_a as ``init`` says, with its warm-up and statistics."""
        self._reset_statistics()
        if self.aux_weight is None:
            return
        if self.aux_weight.is_meta:  # the weight may have been assigned by load_state_dict
            learns = self.aux_weight.requires_grad
            self.aux_weight = nn.Parameter(torch.empty_like(self.weight), requires_grad=learns)
        if self._aux_init == 'copy':
            self._copy_weight()
        elif not self.aux_weight.is_meta:
            fresh = torch.empty(self.aux_weight.shape, device='cpu')
            nn.init.kaiming_uniform_(fresh, a=5**0.5, generator=weight_generator(self.weight))
            with torch.no_grad():
                self.aux_weight.copy_(fresh)

    def _reset_statistics(self) -> None:
        if self.ags_warmup is not None and self.ags_statistics is not None:
            options: dict[str, Any] = {'device': self.weight.device, 'dtype': torch.float32}
            self.ags_warmup = torch.ones((), **options)
            self.ags_statistics = torch.zeros(len(Statistics._fields), **options)

    def _copy_weight(self) -> None:
        assert self.aux_weight is not None
        with torch.no_grad():
            self.aux_weight.copy_(self.weight)
        self._copied = checksum(self.aux_weight)

    def finish_loading(self) -> None:
        """Keep all parameters, after code that sets them one by one and leaves buffers without values."""
        self._copied = None
        if self.aux_weight is not None and self.frozen:
            self.aux_weight.requires_grad_(False)
        self._reset_statistics()

    def _follow_weight(self) -> None:
        """Copy W_b to W_a again, if W_a still is the last copy and W_b has changed."""
        if self._copied is None:
            return
        if not self._is_copy():
            self._copied = None
        elif checksum(self.weight) != self._copied:
            self._copy_weight()

    def _is_copy(self) -> bool:
        """Return whether W_a is what :meth:`_copy_weight` left, and no backward pass has used it."""
        aux = self.aux_weight
        # FSDP replaces a parameter by a view, or by a flat part of it
        whole = type(aux) is nn.Parameter and aux.dim() > 1 and not aux.is_inference()
        if self._copied is None or not whole or not aux.requires_grad:  # type: ignore[union-attr]
            return False
        if self.ags_statistics is not None and self.ags_statistics.any():
            return False
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        if distributed and torch.distributed.get_world_size() > 1:
            return True
        return checksum(aux) == self._copied  # type: ignore[arg-type]

    def _apply(self: A, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> A:
        """Move or cast the layer. The statistics are at least float32: narrower floats cannot count or hold norms."""
        was_copy = self._copied is not None and self._is_copy()
        super()._apply(fn, recurse)
        if was_copy and self.aux_weight is not None:
            self._copied = checksum(self.aux_weight)
        for name in ('ags_warmup', 'ags_statistics'):
            values = getattr(self, name)
            if values is not None:
                setattr(self, name, values.to(torch.promote_types(values.dtype, torch.float32)))
        return self

    def train(self: A, mode: bool = True) -> A:
        """Set training or evaluation mode.

        Args:
            mode (bool): True for training. Defaults to True.
        """
        if mode:
            self._follow_weight()
        return super().train(mode)

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        self._follow_weight()
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Load with or without ``aux_weight`` in ``state_dict``: the branch restarts, or the entry is ignored."""
        key = prefix + 'aux_weight'
        loaded = f'{prefix}weight' in state_dict
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        if self.aux_weight is None:
            if key in unexpected_keys:
                unexpected_keys.remove(key)
        elif key in state_dict:
            if state_dict[key].shape == self.aux_weight.shape:
                self._copied = None
        else:
            if key in missing_keys:
                missing_keys.remove(key)
            if loaded:
                self._reset_branch()
        if loaded:  # a layer made on the meta device has no values here
            self._reset_statistics()


def checksum(weight: Tensor) -> int | None:
    """Return the CRC-32 of the values of a weight in float32, or None if it has no values, as on the meta device.

    Args:
        weight (Tensor): Weight of a layer, of any shape, on any device.
    """
    values = weight.detach()
    if values.is_meta or type(values) is not Tensor:  # as a FakeTensor
        return None
    if values.untyped_storage().nbytes() < values.numel() * values.element_size():  # freed by FSDP
        return None
    values = values.float().cpu().contiguous()
    return zlib.crc32(ctypes.string_at(values.data_ptr(), values.numel() * values.element_size()))


def weight_generator(weight: Tensor) -> torch.Generator:
    """Return a generator seeded by a weight.

    It leaves the global generators as they are, so that a seed gives all variants the same weights. Layers draw
    different numbers, and ranks with the same weights draw the same.

    Args:
        weight (Tensor): Weight of a layer, of any shape.
    """
    return torch.Generator('cpu').manual_seed(checksum(weight) or 0)
