"""What the convolution and the linear layer share: binarisers, auxiliary weights and their scale policy."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from surge_mm.layers.compensator import parse_compensator
from surge_mm.ops import (
    STATISTICS,
    ActivationBinarizer,
    AdaptiveScale,
    DualPath,
    DualPathSpec,
    FixedScale,
    WeightBinarizer,
    infer,
)
from surge_mm.ops.linear_maps import BilinearMap

B = TypeVar('B', bound='BinaryLayer')
L = TypeVar('L', nn.Conv2d, nn.Linear)
DEFAULT_ACTIVATION = {'type': 'ApproxSign'}
DEFAULT_WEIGHT = {'type': 'ScaledSign'}
DEFAULT_COMPENSATOR = {'eta': 0.1}


class BinaryLayer(nn.Module):
    """Mixin that stands before ``nn.Conv2d`` or ``nn.Linear`` and brings what SURGE adds to them.

    ``weight`` holds the latent weights W_b, ``aux_weight`` (of the same shape; absent without a compensator) the
    auxiliary weights W_a. A copy start of ``aux_weight`` is taken when training begins, so that it sees what
    ``init_weights`` and checkpoints did to ``weight``; it is not taken if a state dict brought ``aux_weight``.
    ``activation_shift`` and ``weight_gain`` are there for the binarisers that learn them.

    Attributes:
        scale (FixedScale | AdaptiveScale | None): The policy for lambda.
        tied (bool): Whether W_a is W_b itself, which the branch then does not train.
        ags_warmup (Tensor): A 0-dimensional factor of eta.
        ags_statistics (Tensor): What the last backward pass under AGS wrote, in the order of
            ``surge_mm.ops.STATISTICS``.
        observe (bool): Whether backward passes also write the statistics that cost a pass over the gradients.
        warn_as (str): A name, to warn once, in the next forward pass of training, of an input that is never negative.
    """

    weight: Tensor
    bias: Any  # Parameter or None; the host classes type it differently
    aux_weight: nn.Parameter | None
    activation_shift: nn.Parameter | None
    weight_gain: nn.Parameter | None
    ags_warmup: Tensor | None
    ags_statistics: Tensor | None

    def _init_dual_path(
        self,
        activation: dict[str, Any] | None,
        weight: dict[str, Any] | None,
        compensator: dict[str, Any] | None,
        shift_shape: tuple[int, ...],
    ) -> None:
        self.activation: ActivationBinarizer = ActivationBinarizer.build(
            DEFAULT_ACTIVATION if activation is None else activation
        )
        self.weight_binarizer: WeightBinarizer = WeightBinarizer.build(
            DEFAULT_WEIGHT if weight is None else weight
        )
        self.weight_binarizer.check(self.weight.shape)
        self._init_learned(shift_shape)
        self.observe = False
        self.warn_as = ''
        self.scale: FixedScale | AdaptiveScale | None = None
        self.tied = False
        self._copy_pending = False
        self.register_parameter('aux_weight', None)
        if compensator is None:
            self.register_buffer('ags_warmup', None, persistent=False)
            self.register_buffer('ags_statistics', None, persistent=False)
            return
        try:
            parsed = parse_compensator(compensator)
        except ValueError as error:
            raise ValueError(f'{type(self).__name__}({super().extra_repr()}): {error}') from error
        self.scale, self._aux_init = parsed.scale, parsed.init
        self.tied = parsed.tied
        if not self.tied:
            self.aux_weight = nn.Parameter(torch.zeros_like(self.weight))
        options: dict[str, Any] = {'device': self.weight.device, 'dtype': torch.float32}
        self.register_buffer('ags_warmup', torch.ones((), **options), persistent=False)
        self.register_buffer(
            'ags_statistics', torch.zeros(len(STATISTICS), **options), persistent=False
        )
        if self.aux_weight is not None:
            self._start_aux()

    def _init_learned(self, shift_shape: tuple[int, ...]) -> None:
        """Make what the binarisers learn beside the weights."""
        options: dict[str, Any] = {'device': self.weight.device, 'dtype': self.weight.dtype}
        shift = gain = None
        if self.activation.learned_shift:
            shift = nn.Parameter(torch.zeros(shift_shape, **options))
        if self.weight_binarizer.learned_gain:
            gain = nn.Parameter(self._draw_gain().to(**options))
        self.register_parameter('activation_shift', shift)
        self.register_parameter('weight_gain', gain)

    def _draw_gain(self) -> Tensor:
        shape = (len(self.weight),) + (1,) * (self.weight.dim() - 1)
        return torch.rand(shape, generator=self._own_generator(), device='cpu')

    def _take(self: B, layer: nn.Conv2d | nn.Linear) -> B:
        """Use the parameters of ``layer``, the very tensors; where they are and whether they learn counts for all."""
        self.to(device=layer.weight.device, dtype=layer.weight.dtype)
        if not layer.weight.requires_grad:
            self.requires_grad_(False)
        self.weight, self.bias = layer.weight, layer.bias
        if self.aux_weight is not None:
            self._start_aux()
        if self.weight_gain is not None:
            with torch.no_grad():
                self.weight_gain.copy_(self._draw_gain())
        return self.train(layer.training)

    def _give(self, layer: L) -> L:
        """Hand the latent weights and the bias to ``layer``, the very tensors."""
        layer.weight, layer.bias = self.weight, self.bias
        return layer.train(self.training)

    def _own_generator(self) -> torch.Generator:
        """A generator that the weight seeds.

        It leaves the global generators as they are, so that a seed gives all variants the same weights; layers differ,
        and ranks with the same weights agree.
        """
        values = self.weight.detach().float().cpu().contiguous().numpy()
        return torch.Generator().manual_seed(zlib.crc32(values.tobytes()))

    def _start_aux(self) -> None:
        """Begin the auxiliary weights afresh, as ``init`` says. Until a copy is taken, they are 0."""
        assert self.aux_weight is not None
        with torch.no_grad():
            if self._aux_init == 'copy':
                self._copy_pending = True
                self.aux_weight.zero_()
            else:
                fresh = torch.empty(self.aux_weight.shape, device='cpu')
                nn.init.kaiming_uniform_(fresh, a=5**0.5, generator=self._own_generator())
                self.aux_weight.copy_(fresh)

    def _copy_start(self) -> None:
        assert self.aux_weight is not None
        with torch.no_grad():
            self.aux_weight.copy_(self.weight)

    def _dual_path(self, map: BilinearMap, x: Tensor, pad_value: float = 0.0) -> Tensor:
        if self._copy_pending and torch.is_grad_enabled():
            self._copy_start()
            self._copy_pending = False
        if self.warn_as and self.training and not torch.compiler.is_compiling():
            self._warn_of_unsigned(x)
        compute_dtype = None
        device_type = x.device.type
        if torch.is_autocast_enabled(device_type) and x.dtype != torch.float64:
            compute_dtype = torch.get_autocast_dtype(device_type)
        spec = DualPathSpec(
            map,
            self.activation,
            self.weight_binarizer,
            self.scale,
            pad_value,
            compute_dtype,
            self.observe,
        )
        learned = (self.activation_shift, self.weight_gain)
        # in training, activation checkpointing runs a layer without a gradient first, and then with one
        if compute_dtype is None and not self.training and not torch.is_grad_enabled():
            return infer(x, self.weight, self.bias, *learned, spec)
        w_a = self.weight.detach() if self.tied else self.aux_weight
        weights = (self.weight, self.bias, w_a)
        with torch.autocast(device_type, enabled=False):
            return DualPath.apply(x, *weights, *learned, self.ags_warmup, self.ags_statistics, spec)

    def _warn_of_unsigned(self, x: Tensor) -> None:
        """Signs of what is never negative are all +1, whatever the input; a learned shift may help itself."""
        name, self.warn_as = self.warn_as, ''
        if x.numel() and self.activation_shift is None and bool((x >= 0).all()):
            print_log(
                f'{name}: its input is never negative, so its signs are all +1 and say nothing of it. Keep the layer '
                f"real, dict(name={name!r}, to='keep'), or let what stands before it give both signs",
                'current',
                logging.WARNING,
            )

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        # Of a model before its training: the copy that it would take. Another model's average of such weights, as EMA
        # keeps it, was never trained itself either, but has values by then.
        if self._copy_pending and self.aux_weight is not None and not self.aux_weight.any():
            self._copy_start()
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
        """With or without ``aux_weight`` in ``state_dict``, it fits: branches start afresh, or are left out."""
        key = prefix + 'aux_weight'
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        if self.aux_weight is None:
            if key in unexpected_keys:
                unexpected_keys.remove(key)
        elif key in state_dict:
            self._copy_pending = False
        else:
            if key in missing_keys:
                missing_keys.remove(key)
            if prefix + 'weight' in state_dict:
                self._start_aux()

    def extra_repr(self) -> str:
        parts = [
            f'activation={self.activation}',
            f'weight={self.weight_binarizer}',
            f'scale={self.scale}',
            f'tied={self.tied}',
        ]
        return ', '.join([super().extra_repr(), *parts])


def compensated_layers(model: nn.Module) -> Iterator[tuple[str, BinaryLayer]]:
    """The layers of ``model`` that have a branch, with their dotted names, each once."""
    for name, module in model.named_modules():
        if isinstance(module, BinaryLayer) and module.scale is not None:
            yield name, module
