"""Base of the binary convolution and the binary linear layer: their binarizers and their forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, fx, nn

from surge_mm.layers.auxiliary_branch import AuxiliaryBranch, weight_generator
from surge_mm.layers.compensator import DEFAULT_ETA
from surge_mm.layers.learned_activation import LearnedActivation
from surge_mm.ops import (
    DualPath,
    DualPathSpec,
    EagerDualPath,
    Scheduled,
    WeightBinarizer,
    infer,
    read_constants,
)
from surge_mm.ops.chunking import is_transforming
from surge_mm.ops.linear_maps import BilinearMap
from surge_mm.ops.signs import is_exporting
from surge_mm.utils.logging import warn

B = TypeVar('B', bound='BinaryLayer')
L = TypeVar('L', nn.Conv2d, nn.Linear)
DEFAULT_ACTIVATION = {'type': 'ApproxSign'}
DEFAULT_WEIGHT = {'type': 'ScaledSign'}
DEFAULT_COMPENSATOR = {'eta': DEFAULT_ETA}


class BinaryLayer(LearnedActivation, AuxiliaryBranch):
    """Mixin that precedes ``nn.Conv2d`` or ``nn.Linear`` in the bases of a class and makes it a SURGE layer.

    ``weight`` holds the latent weights W_b. ``aux_weight`` has the auxiliary weights W_a (:class:`.AuxiliaryBranch`).
    ``activation_shift``, ``activation_scale`` and ``weight_gain`` are the parameters of binarizers that learn them.

    Attributes:
        settings (dict): The arguments ``activation``, ``weight`` and ``compensator``.
        observe (bool): Whether backward passes also record the statistics that cost a pass over the gradients.
        warn_as (str): Name of the layer, to warn once, in the next forward pass of training, of an input that is never
            negative. Empty for no warning.
    """

    bias: Any  # Parameter or None; the host classes type it differently
    weight_gain: nn.Parameter | None

    def _init_dual_path(
        self,
        activation: dict[str, Any],
        weight: dict[str, Any],
        compensator: dict[str, Any] | None,
        shift_shape: tuple[int, ...],
    ) -> None:
        self.settings = {'activation': activation, 'weight': weight, 'compensator': compensator}
        options: dict[str, Any] = {'device': self.weight.device, 'dtype': self.weight.dtype}
        self._init_activation(activation, shift_shape, **options)
        self.weight_binarizer: WeightBinarizer = WeightBinarizer.build(weight)
        self.weight_binarizer.check(self.weight.shape)
        self.observe = False
        self.warn_as = ''
        self.register_parameter('weight_gain', None)
        if self.weight_binarizer.learned_gain:
            gain_shape = (len(self.weight),) + (1,) * (self.weight.dim() - 1)
            self.weight_gain = nn.Parameter(torch.empty(gain_shape, **options))
        self._init_branch(compensator)
        self._reset_learned()
        self._reset_branch()

    def reset_parameters(self) -> None:
        """Draw the weights anew, as the host class does, and restart the branch and what binarizers learn."""
        super().reset_parameters()  # type: ignore[misc]
        if hasattr(self, '_aux_init'):  # the host's constructor calls this before there is a branch
            self._reset_learned()
            self._reset_branch()

    def _reset_learned(self) -> None:
        """Restart the parameters of binarizers: shifts at 0, scales unset, gains at a draw from 0 to 1."""
        self._reset_activation()
        with torch.no_grad():
            if self.weight_gain is not None and not self.weight_gain.is_meta:
                generator = weight_generator(self.weight)
                draw = torch.rand(self.weight_gain.shape, generator=generator, device='cpu')
                self.weight_gain.copy_(draw)

    def train(self: B, mode: bool = True) -> B:
        """Set training or evaluation mode.

        Args:
            mode (bool): True for training. Defaults to True.
        """
        if mode:
            for binarizer in self._scheduled().values():
                binarizer.restore(None)  # training needs a schedule of its own
        return super().train(mode)

    def _take(self: B, layer: nn.Conv2d | nn.Linear) -> B:
        """Use the parameters of ``layer``, the same tensors; device, dtype and ``requires_grad`` hold for all."""
        self.to(device=layer.weight.device, dtype=layer.weight.dtype)
        if not layer.weight.requires_grad:
            self.requires_grad_(False)
        # past the check for a fusion, which zeros may look like
        self.register_parameter('weight', layer.weight)  # type: ignore[arg-type]
        self.register_parameter('bias', layer.bias)  # type: ignore[arg-type]
        # else init_weights of transformers would draw the weights again
        if getattr(layer, '_is_hf_initialized', False):
            self._is_hf_initialized = True
        self._reset_learned()
        self._reset_branch()
        return self.train(layer.training)

    def _give(self, layer: L) -> L:
        """Give the latent weights and the bias to ``layer``, the same tensors."""
        if 'weight' not in self._parameters:
            raise RuntimeError(
                f'{type(self).__name__} computes its weight from other parameters, so it has no real layer with the '
                'same parameters. Remove the normalization first, for instance by torch.nn.utils.remove_spectral_norm'
            )
        layer.weight, layer.bias = self.weight, self.bias
        return layer.train(self.training)

    def _dual_path(self, map: BilinearMap, x: Tensor, pad_value: float = 0.0) -> Tensor:
        if self.warn_as and self.training and not torch.compiler.is_compiling():
            self._warn_of_unsigned(x)
        if self.training and self.activation_scale is not None and not self._scale_is_checked:
            self._start_scale(x)
        device_type = x.device.type
        autocasts = torch.amp.is_autocast_available(device_type)  # not on the meta device
        compute_dtype = None
        if autocasts and torch.is_autocast_enabled(device_type) and x.dtype != torch.float64:
            compute_dtype = torch.get_autocast_dtype(device_type)
        spec = DualPathSpec(
            map,
            self.activation,
            self.weight_binarizer,
            self.scale,
            pad_value,
            compute_dtype,
            self.observe,
            self.branch_dtype,
        )
        learned = (self.activation_shift, self.weight_gain, self.activation_scale)
        # In training, activation checkpointing runs a layer without a gradient first, and then with one. A trace would
        # hold the autograd function as one opaque operator, and an export its form for training.
        exports = is_exporting() and not self.training
        differentiates = torch.is_grad_enabled() or torch.autograd.forward_ad._current_level >= 0
        evaluates = not self.training and not differentiates and compute_dtype is None
        if evaluates or exports or torch.jit.is_tracing():
            return infer(x, self.weight, self.bias, *learned, spec)
        function: type[DualPath] = EagerDualPath
        if torch.compiler.is_compiling():
            function = DualPath
            read_constants(spec)
        w_a = self.weight if self.tied else self.aux_weight
        if w_a is not None and (self.tied or self.frozen):
            w_a = w_a.detach()
        weights = (self.weight, self.bias, w_a)
        warmup = self.ags_warmup
        if warmup is not None:
            warmup = warmup.to(torch.promote_types(x.dtype, torch.float32))
        with torch.autocast(device_type, enabled=False) if autocasts else nullcontext():
            return function.apply(x, *weights, *learned, warmup, self.ags_statistics, spec)

    def _node(self, x: fx.Proxy) -> fx.Proxy:
        """Return the layer as one node of the graph that ``torch.fx`` traces, as layers of PyTorch are."""
        path = x.tracer.path_of_module(self)  # type: ignore[attr-defined]
        if not path:
            raise ValueError(
                f'torch.fx cannot trace a {type(self).__name__} alone. Trace nn.Sequential(layer)'
            )
        return x.tracer.create_proxy('call_module', path, (x,), {})

    def _warn_of_unsigned(self, x: Tensor) -> None:
        """Warn of an input whose signs are all +1. A learned shift or scale makes such an input useful."""
        if (
            x.is_meta or type(x) is not Tensor or is_transforming(x)
        ):  # without values, as a FakeTensor
            return
        name, self.warn_as = self.warn_as, ''
        if x.numel() and not self.learns_activation and bool((x >= 0).all()):
            warn(
                f'{name}: its input is never negative, so all its signs are +1, whatever the image. Keep the layer '
                f"in full precision, dict(name={name!r}, to='keep'), or give it an input of both signs"
            )

    def _scheduled(self) -> dict[str, Scheduled]:
        """Return the scheduled binarizers, by the key of their progress in the metadata of a state dict."""
        both = {'activation_progress': self.activation, 'weight_progress': self.weight_binarizer}
        return {key: one for key, one in both.items() if isinstance(one, Scheduled)}

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        metadata = getattr(destination, '_metadata', {}).get(prefix[:-1], {})
        for key, binarizer in self._scheduled().items():
            metadata[key] = binarizer.known_progress

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *args: Any
    ) -> None:
        for name, binarizer in self._scheduled().items():
            progress = local_metadata.get(name)
            if isinstance(progress, float) and 0 <= progress <= 1:
                binarizer.restore(progress)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    def extra_repr(self) -> str:
        parts = [
            f'activation={self.activation}',
            f'weight={self.weight_binarizer}',
            f'scale={self.scale}',
            f'tied={self.tied}',
            f'frozen={self.frozen}',
        ]
        if self.branch_dtype is not None:
            parts.append(f'branch_dtype={self.branch_dtype}')
        return ', '.join([super().extra_repr(), *parts])


def compensated_layers(model: nn.Module) -> Iterator[tuple[str, BinaryLayer]]:
    """Yield the layers of ``model`` that have an auxiliary branch, each once, with their dotted names."""
    for name, module in model.named_modules():
        if isinstance(module, BinaryLayer) and module.scale is not None:
            yield name, module
