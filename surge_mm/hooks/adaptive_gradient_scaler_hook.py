"""The Adaptive Gradient Scaler (AGS) of SURGE (arXiv 2605.10989) as a policy for a whole model.

The formula stands in :mod:`surge_mm.ops.dual_path`, where each layer computes its lambda in its own backward pass. This
hook says which eta the layers use, and reports what they did.
"""

from __future__ import annotations

import difflib
import logging
from datetime import timedelta
from typing import Any

import torch
from mmengine.dist import get_default_group, get_world_size
from mmengine.hooks import Hook, LoggerHook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import Tensor

from surge_mm.layers import BinaryLayer, compensated_layers
from surge_mm.layers.compensator import DEFAULT_ETA
from surge_mm.ops import AdaptiveScale, Statistics, set_sync_group
from surge_mm.registry import HOOKS
from surge_mm.utils.argument_checks import did_you_mean
from surge_mm.utils.errors import UsageError

Batch = Any


@HOOKS.register_module()
class AdaptiveGradientScalerHook(Hook):
    """Switches AGS on for every compensated layer of the model; wins over the layers' own ``compensator``.

    At the logger's interval it writes to the message hub, and so to the log, the JSON file and every visualiser:

    - ``train/ags_lambda_mean``, ``_min``, ``_max``: lambda over the layers;
    - ``train/ags_cos_mean``: cos(g_b, g_a), the mean over the layers;
    - ``train/ags_clipped_share``: the share of activations whose surrogate derivative is 0, the mean over the layers;
    - ``train/ags_nonfinite_steps``: since the start of this process, the steps in which a layer left its branch out
      because a norm was not finite.

    Args:
        eta (float): The strength of the correction, ``||lambda g_a|| / ||g_b||``. Defaults to 0.1.
        preserve_norm (bool): Correct the direction of the gradient, keep its length. Defaults to False.
        warmup_iters (int): Iterations over which eta grows linearly from 0. Defaults to 0.
        custom_keys (dict, optional): Overrides by name, as in ``paramwise_cfg``:
            ``{'backbone.layer4': dict(eta=0.05)}`` sets ``eta`` or ``preserve_norm`` for layers whose dotted name
            contains the key; the longest key wins.
        sync (bool): Sum the squared norms over all ranks, so that lambda is that of the global batch. Each layer must
            then take part in each backward pass of every rank; one that does not is waited for until
            ``env_cfg.dist_cfg.timeout``. Defaults to False: lambda is each rank's own.

    Raises:
        ValueError: a value out of range; at the start of training: a model without compensators, a key in
            ``custom_keys`` that no layer's name contains.
    """

    priority = 'NORMAL'

    def __init__(
        self,
        eta: float = DEFAULT_ETA,
        preserve_norm: bool = False,
        warmup_iters: int = 0,
        custom_keys: dict[str, dict[str, Any]] | None = None,
        sync: bool = False,
    ) -> None:
        if isinstance(warmup_iters, bool) or not isinstance(warmup_iters, int) or warmup_iters < 0:
            raise ValueError(f'warmup_iters={warmup_iters!r} must be a whole number of at least 0')
        self.settings: dict[str, Any] = {'eta': eta, 'preserve_norm': preserve_norm}
        AdaptiveScale(**self.settings, sync=sync)  # raises for a value out of range
        self.custom_keys = {} if custom_keys is None else custom_keys
        if not isinstance(self.custom_keys, dict):
            raise ValueError(
                f"custom_keys={custom_keys!r} must be a dict, such as {{'layer4': dict(eta=0.05)}}"
            )
        for key, override in self.custom_keys.items():
            if not isinstance(override, dict):
                raise ValueError(
                    f'custom_keys[{key!r}]={override!r} must be a dict, such as dict(eta=0.05)'
                )
            for name in override:
                if name not in self.settings:
                    hint = did_you_mean(str(name), list(self.settings))
                    raise ValueError(f'custom_keys[{key!r}]={override!r}: unknown {name!r}{hint}')
            try:
                AdaptiveScale(**{**self.settings, **override})
            except ValueError as error:
                raise ValueError(f'custom_keys[{key!r}]: {error}') from error
        self.warmup_iters = warmup_iters
        self.sync = sync
        self._layers: list[BinaryLayer] = []
        self._interval = 1
        self._steps: Tensor | None = None
        self._seen: Tensor | None = None

    def before_train(self, runner: Runner) -> None:
        named = dict(compensated_layers(runner.model))
        if not named:
            raise UsageError(
                'AdaptiveGradientScalerHook: the model has no compensated layer, so there is nothing to '
                'scale. Give its binary layers compensator=dict(eta=...), for instance '
                "conv_cfg=dict(type='surge_mm.SurgeConv2d'), or remove the hook for a plain binary or "
                'full-precision model'
            )
        self._check_keys(list(named))
        sync = self.sync and get_world_size() > 1
        if sync:
            if getattr(runner.model, 'find_unused_parameters', False):
                print_log(
                    'AGS: with sync=True the ranks wait for each other in every compensated layer. Where '
                    'find_unused_parameters=True is for a layer that some ranks leave out of a step, take sync=False, '
                    'or the ranks end with an error after env_cfg.dist_cfg.timeout seconds',
                    'current',
                    logging.WARNING,
                )
            set_sync_group(torch.distributed.new_group(timeout=_timeout_of_all_ranks()))
        for name, layer in named.items():
            keys = [key for key in self.custom_keys if key in name]
            override = self.custom_keys[max(keys, key=len)] if keys else {}
            scale = AdaptiveScale(**{**self.settings, **override}, sync=sync)
            if layer.scale != scale:
                print_log(f'AGS: {name} has {scale} by the hook, not {layer.scale}', 'current')
            layer.scale = scale
        self._layers = list(named.values())
        loggers = [hook for hook in runner.hooks if isinstance(hook, LoggerHook)]
        self._interval = loggers[0].interval if loggers else 10
        self._steps = self._seen = None

    def _check_keys(self, names: list[str]) -> None:
        for key in self.custom_keys:
            if not any(key in name for name in names):
                near = difflib.get_close_matches(key, names, n=3, cutoff=0.3) or names[:3]
                raise UsageError(
                    f'custom_keys: no compensated layer has {key!r} in its name; near ones: {", ".join(near)}'
                )

    def _reports(self, runner: Runner, batch_idx: int) -> bool:
        """Whether the logger will print after this iteration."""
        last = runner.iter + 1 == runner.max_iters
        end_of_epoch = self.end_of_epoch(runner.train_dataloader, batch_idx)
        return (
            self.every_n_inner_iters(batch_idx, self._interval)
            or self.every_n_train_iters(runner, self._interval)
            or end_of_epoch
            or last
        )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Batch = None) -> None:
        observe = self._reports(runner, batch_idx)
        for layer in self._layers:
            layer.observe = observe
            if self.warmup_iters and layer.ags_warmup is not None:
                layer.ags_warmup.fill_(min(1.0, (runner.iter + 1) / self.warmup_iters))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Batch = None, outputs: Any = None
    ) -> None:
        # Everything stays on the device until the logger prints. Layers that compute no lambda say nothing.
        values = [
            layer.ags_statistics
            for layer in self._layers
            if layer.ags_statistics is not None and _computes_lambda(layer)
        ]
        if not values:
            return
        of_layers = Statistics(*torch.stack(values).float().unbind(1))
        lam, total = of_layers.lam, of_layers.non_finite.sum()
        happened = (total > (0 if self._seen is None else self._seen)).float()
        self._steps = happened if self._steps is None else self._steps + happened
        self._seen = total
        if not self._reports(runner, batch_idx):
            return
        report = torch.stack(
            (
                lam.mean(),
                lam.min(),
                lam.max(),
                of_layers.cos.mean(),
                of_layers.clipped.mean(),
                self._steps,
            )
        )
        names = ('lambda_mean', 'lambda_min', 'lambda_max', 'cos_mean', 'clipped_share')
        for name, value in zip((*names, 'nonfinite_steps'), report.tolist(), strict=True):
            runner.message_hub.update_scalar(f'train/ags_{name}', value)


def _timeout_of_all_ranks() -> timedelta:
    """How long a rank waits for the others; a new group would have its backend's default."""
    world = get_default_group()
    return world._get_backend(world._device_types[0]).options._timeout


def _computes_lambda(layer: BinaryLayer) -> bool:
    learns = (layer.weight if layer.aux_weight is None else layer.aux_weight).requires_grad
    return learns and layer.scale is not None and not layer.scale.is_zero
