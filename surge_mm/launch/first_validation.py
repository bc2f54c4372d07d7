"""One image of the validation set through model and metrics before training, as the first validation will do it.

MMEngine validates after the first epoch, which may take hours. A pipeline that leaves out what the model or a metric
reads, and a ``save_best`` that is not the name of a metric, end the training there.
"""

from __future__ import annotations

import copy
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import Any

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.model import is_model_wrapper
from mmengine.optim.scheduler.param_scheduler import ReduceOnPlateauParamScheduler
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner, ValLoop, autocast
from mmengine.structures import InstanceData
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from surge_mm.utils.errors import LaunchError, UsageError
from surge_mm.utils.logging import warn
from surge_mm.utils.registry_errors import explain
from surge_mm.utils.suggestions import did_you_mean


def check_validation(runner: Runner) -> None:
    """Evaluate one image of the validation set, and check the names of the metrics that hooks and schedules read.

    The state of the model, of the metrics and of the random generators stays as it is. Only the first rank checks.
    Loops, data loaders and wrappers of models of other kinds than MMEngine's are not checked.

    Args:
        runner (Runner): the runner of a training, at its beginning.

    Raises:
        LaunchError: if the model or a metric does not take the image, or if a name is not that of a metric.
    """
    if not is_main_process() or not _will_validate(runner):
        return
    try:
        with _unchanged(runner.model):
            batch, outputs, losses = _validate_one_image(runner)
            metrics = _process(runner, batch, outputs)
    except UsageError:
        raise
    except Exception as error:  # of a pipeline, a model or a metric
        raise LaunchError(
            f'the validation would fail: one image of val_dataloader gives {explain(error)}'
        ) from error
    try:
        with _unchanged(runner.model):
            names = _names_of(metrics)
            if not names and _add_a_detection(outputs[0]):
                names = _names_of(_process(runner, batch, outputs))
    except Exception as error:  # which a metric may raise on a single image alone
        warn(
            f'val_evaluator fails on a single image: {explain(error)}. If it fails on the whole set too, the training '
            'ends at its first validation'
        )
        return
    if names:
        _check_names(runner, [*names, *losses])


def _will_validate(runner: Runner) -> bool:
    if not isinstance(runner._val_loop, ValLoop):
        return False
    train = runner.train_loop
    if not isinstance(train, (EpochBasedTrainLoop, IterBasedTrainLoop)):
        return False
    end = train.max_epochs if isinstance(train, EpochBasedTrainLoop) else train.max_iters
    model = runner.model
    return (
        train.val_begin <= end  # the last epoch is validated, whatever the interval
        and getattr(runner.val_dataloader, 'batch_sampler', None) is not None
        and (not is_model_wrapper(model) or isinstance(model, DistributedDataParallel))
    )


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """Keep the modes of a model and the random generators, and keep metrics from printing their tables."""
    modes = {module: module.training for module in model.modules()}
    states = random.getstate(), np.random.get_state()
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices), torch.no_grad(), redirect_stdout(StringIO()):
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
            random.setstate(states[0])
            np.random.set_state(states[1])
            for module, mode in modes.items():
                module.training = mode


def _validate_one_image(runner: Runner) -> tuple[Any, list[Any], list[str]]:
    """Return a batch of one image, the outputs of the model, and the names of the losses of the validation."""
    loader, loop = runner.val_dataloader, runner.val_loop
    index = next(iter(loader.batch_sampler))[0]
    one_image = DataLoader(loader.dataset, batch_sampler=[[index]], collate_fn=loader.collate_fn)
    batch = next(iter(one_image))
    runner.model.eval()
    with autocast(enabled=loop.fp16):
        outputs = list(runner.model.val_step(batch))
    losses = []
    if hasattr(outputs[-1], 'keys') and outputs[-1].keys() == ['loss']:
        losses = [*outputs.pop().loss, 'val_loss']
    return batch, outputs, losses


def _process(runner: Runner, batch: Any, outputs: list[Any]) -> list[BaseMetric]:
    """Return copies of the metrics with the results of outputs; none if the evaluator is not MMEngine's."""
    evaluator = copy.copy(runner.val_evaluator)
    evaluator.metrics = [copy.copy(metric) for metric in evaluator.metrics]
    for metric in evaluator.metrics:
        metric.results = []
    evaluator.process(data_samples=outputs, data_batch=batch)
    return evaluator.metrics if type(evaluator) is Evaluator else []


def _add_a_detection(sample: Any) -> bool:
    """Add one of zeros to no detections, as an untrained detector has. COCO's metric returns nothing for none."""
    found = getattr(sample, 'pred_instances', None)
    if not isinstance(found, InstanceData) or len(found):
        return False
    values = {key: value.new_zeros(1, *value.shape[1:]) for key, value in found.items()}
    sample.pred_instances = InstanceData(**values)
    return True


def _names_of(metrics: list[BaseMetric]) -> list[str]:
    """Return the names of the values of metrics; an empty list if a metric does not compute them as MMEngine's do."""
    if any(type(metric).evaluate is not BaseMetric.evaluate for metric in metrics):
        return []
    return [
        f'{metric.prefix}/{name}' if metric.prefix else name
        for metric in metrics
        for name in metric.compute_metrics(metric.results)
    ]


def _check_names(runner: Runner, names: list[str]) -> None:
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and hook.save_best:
            for name in hook.key_indicators:
                if name not in ('auto', *names):
                    raise LaunchError(f'save_best={name!r}{did_you_mean(name, names)}')
            if 'auto' in hook.key_indicators:
                _check_rule(hook, names[0])
        if isinstance(hook, EarlyStoppingHook) and hook.monitor not in names:
            message = (
                f'EarlyStoppingHook: monitor={hook.monitor!r}{did_you_mean(hook.monitor, names)}'
            )
            if hook.strict:
                raise LaunchError(message)
            warn(message)
    schedules = runner.param_schedulers or []
    for schedule in schedules if isinstance(schedules, list) else sum(schedules.values(), []):
        if isinstance(schedule, ReduceOnPlateauParamScheduler) and schedule.monitor not in names:
            hint = did_you_mean(schedule.monitor, names)
            warn(f'{type(schedule).__name__} has no effect: monitor={schedule.monitor!r}{hint}')


def _check_rule(hook: CheckpointHook, name: str) -> None:
    """Check that MMEngine can tell whether a larger value of the first metric, which ``'auto'`` chooses, is better."""
    try:
        copy.copy(hook)._init_rule(hook.rules, [name])
    except ValueError as error:
        raise LaunchError(
            f"save_best='auto' chooses {name!r}, and its name does not say whether more is better: set "
            f"save_best={name!r} and rule='greater' or 'less'"
        ) from error
