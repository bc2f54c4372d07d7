"""A report of the gradients of each binary layer over training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.runner import Runner

from surge_mm.analysis.gradients.probe import check_probe
from surge_mm.analysis.gradients.report import NO_BRANCH, measure_gradients
from surge_mm.hooks.layer_hook import LayerHook
from surge_mm.hooks.non_finite_guard_hook import NonFiniteGuardHook
from surge_mm.hooks.safe_checkpoint_hook import RESUME
from surge_mm.layers import compensated_layers
from surge_mm.registry import HOOKS
from surge_mm.utils.argument_checks import Positive, checked
from surge_mm.utils.atomic_write import write_json
from surge_mm.utils.errors import UsageError


@HOOKS.register_module()
class GradientReportHook(LayerHook):
    """Measure the gradients of each binary layer every few iterations, and write ``gradients.json``.

    :mod:`surge_mm.analysis.gradients.report` and ``.probe`` have the formulas. The file is beside ``scalars.json``, in
    ``<work_dir>/<time>/vis_data``, and is written again after each measurement. ``tools/gradients.py --reports`` draws
    it. A measurement runs steps of its own on the batch of the iteration, without autocast. It does not change the
    training: a run with the hook equals the run without it, to the bit. The exception is a model with state outside of
    its parameters and buffers, such as ``DynamicRoIHead``, whose state then includes these steps.

    Args:
        interval (int): Number of iterations between two measurements; the first is before the first step. Defaults to
            500.
        probe (float, optional): Step of the line probe of the loss, relative to the norm of the input of a layer.
            Defaults to None: no probe.

    Raises:
        ValueError: if an argument is out of range. At the start of training: if the model has no layer with a branch,
            or is compiled and ``probe`` is given.
    """

    priority = 'LOW'  # behind the hooks that set the scales and the schedules of the layers

    @checked
    def __init__(self, interval: Positive = 500, probe: float | None = None) -> None:
        check_probe(probe)
        self.interval = interval
        self.probe = probe
        self._reports: list[dict[str, Any]] = []
        self._active = False

    def before_train(self, runner: Runner) -> None:
        """Check the model.

        Args:
            runner (Runner): Runner of the training.

        Raises:
            UsageError: if the model has no layer with a branch, or is compiled and there is a probe.
        """
        self._reports = []
        self._active = any(True for _ in compensated_layers(runner.model))
        if not self._active:
            self.report_no_layers(runner, f'{NO_BRANCH}, or remove the hook for a plain model')
        if self.probe is not None and runner.cfg.get('compile'):
            raise UsageError(
                f'GradientReportHook(probe={self.probe!r}): the probe moves the inputs of single layers, which a '
                f'compiled model does not have (compile={runner.cfg.compile!r}). Leave out probe, or compile'
            )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Measure and write, at the interval.

        Args:
            runner (Runner): Runner of the training.
            batch_idx (int): Number of the batch in the epoch.
            data_batch (Any): Batch to measure on.
        """
        if not self._active or runner.iter % self.interval:
            return
        rows = measure_gradients(runner.model, data_batch, self.probe)
        for hook in runner.hooks:
            if isinstance(hook, NonFiniteGuardHook):
                hook.before_train_iter(runner, batch_idx)  # discards what it noted meanwhile
        self._reports.append({'iter': runner.iter, 'calls': rows})
        if is_main_process():
            path = Path(runner.log_dir) / 'vis_data' / 'gradients.json'
            content = {'probe': self.probe, 'reports': self._reports}
            write_json(path, content, RESUME)
