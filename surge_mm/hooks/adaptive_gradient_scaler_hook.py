"""The Adaptive Gradient Scaler (AGS) of SURGE (arXiv 2605.10989) for all layers of a model.

Each layer computes its lambda in its own backward pass; see :mod:`surge_mm.ops.dual_path` for the formula. The hook
sets eta of the layers and logs their statistics.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any

import torch
from mmengine.dist import get_default_group, get_world_size
from mmengine.hooks import LoggerHook
from mmengine.runner import Runner
from torch import Tensor

from surge_mm.hooks.layer_hook import LayerHook
from surge_mm.layers import BinaryLayer, compensated_layers
from surge_mm.layers.compensator import DEFAULT_ETA
from surge_mm.ops import AdaptiveScale, Statistics, set_sync_group
from surge_mm.ops.gradient_scale import BUILT_IN
from surge_mm.registry import HOOKS
from surge_mm.utils.argument_checks import Count, NonNegative, Within, checked
from surge_mm.utils.cpu_features import has_bfloat16_units
from surge_mm.utils.errors import UsageError
from surge_mm.utils.logging import log, warn
from surge_mm.utils.suggestions import did_you_mean

GROWTH = 0.35
"""ln of the growth of the gradient, divided by the sum of eta over the layers; measured, see docs/method.md."""


@HOOKS.register_module()
class AdaptiveGradientScalerHook(LayerHook):
    """Enable AGS in every compensated layer of the model. It overrides ``compensator`` of the layers.

    A layer with a scale of your own (``compensator=dict(type=...)``) keeps it. Of the arguments, ``warmup_iters`` holds
    for it, and the scalars include it.

    At the interval of the logger, the hook writes these scalars to the message hub, from which they reach the log, the
    JSON file and all visualization backends:

    - ``train/ags_lambda_mean``, ``train/ags_lambda_min``, ``train/ags_lambda_max``: lambda over the layers, and over
      its elements where a scale of your own has several. That of a layer that is used several times in the step, such
      as a head shared by the levels, is its mean over these calls.
    - ``train/ags_cos_mean``: mean over the layers of cos(g_b, g_a).
    - ``train/ags_clipped_share``: mean over the layers of the share of activations whose surrogate gradient is 0.
    - ``train/ags_calls``: number of calls in the step, the sum over the layers. A layer without a call is left out.
    - ``train/ags_nonfinite_steps``: number of steps, since the start of the process, in which a layer set lambda to 0,
      or left out the gradient of W_a, because a value was not finite.

    Args:
        eta (float): Strength of the correction, ``||lambda g_a|| / ||g_b||``. Defaults to 0.1.
        preserve_norm (bool): Correct the direction of the gradient and keep its norm in each layer; over layers with
            shortcuts it can grow all the same. Defaults to False.
        warmup_iters (int): Number of iterations in which eta grows linearly from 0. Defaults to 0.
        custom_keys (dict, optional): ``eta`` or ``preserve_norm`` for layers whose dotted name contains a key, as in
            ``paramwise_cfg``: ``{'backbone.layer4': dict(eta=0.05)}``. The longest matching key has precedence.
            Defaults to None.
        sync (bool): Sum the squared norms over all ranks, so that lambda is that of the global batch. Each layer must
            then take part in each backward pass on every rank; otherwise the ranks wait until
            ``env_cfg.dist_cfg.timeout``. If False, each rank has its own lambda. Defaults to False.
        max_growth (float, optional): Upper bound, at least 1, of the factor by which the branches are expected to
            lengthen the gradient on its way through the model, ``exp(0.35 sum(eta))`` over the layers that the hook
            sets (docs/method.md). If theirs is larger, eta of all of them is lowered by one factor, and the log
            tells. During training the factor can be larger, up to 5.2 for 3.1 where it was measured. Layers beside each
            other, as the towers of a head, count as if one followed the other. Not together with ``preserve_norm``, of
            which the growth is another; layers that have it by ``custom_keys`` are left out. Defaults to None.

    Raises:
        ValueError: if an argument is out of range. At the start of training: if the model has no compensated layer, or
            no layer matches a key of ``custom_keys``.
    """

    @checked
    def __init__(
        self,
        eta: NonNegative = DEFAULT_ETA,
        preserve_norm: bool = False,
        warmup_iters: Count = 0,
        custom_keys: Mapping[str, Mapping[str, Any]] | None = None,
        sync: bool = False,
        max_growth: Annotated[float, Within(1)] | None = None,
    ) -> None:
        if preserve_norm and max_growth is not None:
            raise UsageError(
                f'max_growth={max_growth!r} bounds the growth of the gradient without preserve_norm: omit one of the '
                'two'
            )
        self.max_growth = max_growth
        self.scale = AdaptiveScale(eta, bool(preserve_norm))
        self.eta_is_special = eta != DEFAULT_ETA
        self.custom_keys = dict(custom_keys or {})
        for key, override in self.custom_keys.items():
            self._check_override(key, override)
        self.warmup_iters = warmup_iters
        self.sync = bool(sync)
        self._named: dict[str, BinaryLayer] = {}
        self._interval = 1
        self._steps: Tensor | float = 0.0
        self._seen: Tensor | float = 0.0

    def _check_override(self, key: str, override: Mapping[str, Any]) -> None:
        known = ('eta', 'preserve_norm')
        try:
            for name in override:
                if name not in known:
                    raise UsageError(f'unknown {name!r}{did_you_mean(str(name), known)}')
            replace(self.scale, **override)
        except (TypeError, ValueError) as error:
            raise UsageError(f'custom_keys[{key!r}]={override!r}: {error}') from error

    def before_train(self, runner: Runner) -> None:
        """Set the scales of the compensated layers.

        Args:
            runner (Runner): Runner of the training.

        Raises:
            UsageError: if the model has no compensated layer, or no layer whose scale the hook sets matches a key of
                ``custom_keys``.
        """
        named = dict(compensated_layers(runner.model))
        if not named:
            self.report_no_layers(
                runner,
                'the model has no compensated layer. Add compensator=dict(eta=...) to its '
                "binary layers, for instance by conv_cfg=dict(type='surge_mm.SurgeConv2d'), or remove the hook for a "
                'plain binary or full-precision model',
            )
            return
        self._check_keys([name for name, layer in named.items() if _is_built_in(layer)])
        if self.sync and get_world_size() > 1:
            set_sync_group(torch.distributed.new_group(timeout=_timeout_of_all_ranks()))
        self._named = named
        self._set_scales()
        self._check_dtypes()
        loggers = [hook for hook in runner.hooks if isinstance(hook, LoggerHook)]
        self._interval = loggers[0].interval if loggers else 10
        self._steps = self._seen = 0.0

    def _set_scales(self) -> None:
        """Set the built-in scales of the layers; the longest key that is in the name of a layer has precedence."""
        sync = self.sync and get_world_size() > 1
        own = {name: layer for name, layer in self._named.items() if not _is_built_in(layer)}
        if own:
            report = warn if self.eta_is_special else log
            theirs = ', '.join(sorted({str(layer.scale) for layer in own.values()}))
            report(f'AGS: the hook leaves the scales of {len(own)} layers as they are: {theirs}')
        scales = {}
        for name in self._named:
            if name in own:
                continue
            keys = [key for key in self.custom_keys if key in name]
            override = self.custom_keys[max(keys, key=len)] if keys else {}
            scales[name] = replace(self.scale, **override, sync=sync)
        bounded = [scale.eta for scale in scales.values() if not scale.preserve_norm]
        factor = self._factor_of_eta(bounded)
        for name, scale in scales.items():
            layer = self._named[name]
            if not scale.preserve_norm:
                scale = replace(scale, eta=scale.eta * factor)
            if layer.scale != scale:
                log(f'AGS: the hook sets {scale} in {name} instead of {layer.scale}')
            layer.scale = scale

    def _check_dtypes(self) -> None:
        slow = [
            name
            for name, layer in self._named.items()
            if layer.branch_dtype == torch.bfloat16 and layer.weight.device.type == 'cpu'
        ]
        if slow and not has_bfloat16_units():
            warn(
                f'AGS: the branch of {len(slow)} layers, such as {slow[0]}, is in bfloat16, and this CPU has neither '
                "AMX nor AVX512_BF16, so that it takes longer than in float32. Omit dtype='bfloat16' of compensator "
                'unless the precision matters'
            )

    def _factor_of_eta(self, etas: list[float]) -> float:
        """Return the factor at most 1 by which ``max_growth`` lowers eta of all layers."""
        total = GROWTH * sum(etas)
        if self.max_growth is None or total <= math.log(self.max_growth):
            return 1.0
        factor = math.log(self.max_growth) / total
        warn(
            f'AGS: max_growth={self.max_growth} lowers eta, the largest from {max(etas):.4g} to '
            f'{factor * max(etas):.4g}. Over {len(etas)} layers, the gradient would grow by about '
            f'e^{total:.2g}. Set max_growth=None to train with the given eta all the same'
        )
        return factor

    def _check_keys(self, names: list[str]) -> None:
        for key in self.custom_keys:
            if not any(key in name for name in names):
                near = difflib.get_close_matches(key, names, n=3, cutoff=0.3) or names[:3]
                raise UsageError(
                    f'custom_keys: no compensated layer with a built-in scale has {key!r} in its name; similar names: '
                    f'{", ".join(near) or "none, all layers have scales of your own"}'
                )

    def _reports(self, runner: Runner, batch_idx: int) -> bool:
        """Return whether the logger prints after this iteration."""
        return (
            self.every_n_inner_iters(batch_idx, self._interval)
            or self.every_n_train_iters(runner, self._interval)
            or self.end_of_epoch(runner.train_dataloader, batch_idx)
            or self.is_last_train_iter(runner)
        )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Set the warm-up factor of lambda, and request statistics for the log.

        Args:
            runner (Runner): Runner of the training.
            batch_idx (int): Number of the batch in the epoch.
            data_batch (Any): Not used.
        """
        observe = self._reports(runner, batch_idx)
        for layer in self._named.values():
            layer.observe = observe
            if observe and layer.ags_statistics is not None:
                Statistics(*layer.ags_statistics.unbind()).calls.zero_()
            if self.warmup_iters > 0 and layer.ags_warmup is not None:
                layer.ags_warmup.fill_(min(1.0, (runner.iter + 1) / self.warmup_iters))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Count steps that are not finite, and write the scalars at the interval of the logger.

        Args:
            runner (Runner): Runner of the training.
            batch_idx (int): Number of the batch in the epoch.
            data_batch (Any): Not used.
            outputs (Any): Not used.
        """
        # All values stay on the device until the logger prints. Layers that compute no lambda have none.
        values = [
            layer.ags_statistics
            for layer in self._named.values()
            if layer.ags_statistics is not None and _computes_lambda(layer)
        ]
        if not values:
            return
        table = torch.stack(values).float()
        total = Statistics(*table.unbind(1)).non_finite.sum()
        self._steps = self._steps + (total > self._seen).float()
        self._seen = total
        if not self._reports(runner, batch_idx):
            return
        # one synchronization
        steps, *flat = torch.cat([self._steps.reshape(1), table.flatten()]).tolist()
        rows = torch.tensor(flat, device='cpu').view(table.shape)
        used = Statistics(*rows[rows[:, Statistics._fields.index('calls')] > 0].unbind(1))
        report = {'nonfinite_steps': steps, 'calls': used.calls.sum().item()}
        if len(used.lam):
            report |= {
                'lambda_mean': used.lam.mean().item(),
                'lambda_min': used.lam_min.min().item(),
                'lambda_max': used.lam_max.max().item(),
                'cos_mean': used.cos.mean().item(),
                'clipped_share': used.clipped.mean().item(),
            }
        for name, value in report.items():
            runner.message_hub.update_scalar(f'train/ags_{name}', value)


def _timeout_of_all_ranks() -> timedelta:
    """Return how long a rank waits for the others; a new group would have the default of its backend."""
    world = get_default_group()
    return world._get_backend(world._device_types[0]).options._timeout


def _is_built_in(layer: BinaryLayer) -> bool:
    return type(layer.scale) in BUILT_IN


def _computes_lambda(layer: BinaryLayer) -> bool:
    own = layer.weight if layer.aux_weight is None or layer.frozen else layer.aux_weight
    learns = own.requires_grad
    return learns and layer.scale is not None and not layer.scale.is_zero
