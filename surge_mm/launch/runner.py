"""Building a Runner or a model from a config, and errors of a config until training begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import MODELS, RUNNERS, init_default_scope
from mmengine.runner import Runner
from torch import nn

from surge_mm.launch.distributed import explain_start, is_first_rank, lost_a_rank
from surge_mm.launch.first_validation import check_validation
from surge_mm.launch.run_log import ProgressHook, log_findings
from surge_mm.preflight.datasets import check_datasets
from surge_mm.utils.errors import LaunchError
from surge_mm.utils.hosts import model_config
from surge_mm.utils.registry_errors import explain


def check_data(cfg: Config, splits: tuple[str, ...]) -> list[str]:
    """Check the data of a config, and print and return counts and warnings.

    Only the first rank checks. The others wait for it where the process group starts. The result of the last check is
    used again if neither the config nor a file has changed.

    Args:
        cfg (Config): config of a run.
        splits (tuple[str]): names among ``'train'``, ``'val'`` and ``'test'``.

    Returns:
        list[str]: counts and warnings, for the log of the run (:func:`begin`).

    Raises:
        DatasetError: if data is missing, damaged or does not fit the config.
    """
    lines = check_datasets(cfg, splits, cached=True) if is_first_rank(cfg) else []
    for line in lines:
        print(f'data: {line}', flush=True)
    return lines


def build_runner(cfg: Config) -> Runner:
    """Build the Runner of a config.

    Args:
        cfg (Config): config of a run.

    Returns:
        Runner: the runner, whose data loaders, optimizer and hooks MMEngine builds later.

    Raises:
        LaunchError: as :func:`begin`.
    """
    with _building(cfg):
        return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)


def build_model(cfg: Config) -> nn.Module:
    """Build the model of a config alone, with the data preprocessor that the Runner would give it.

    Args:
        cfg (Config): config of a run.

    Returns:
        nn.Module: the model, not initialized.

    Raises:
        LaunchError: as :func:`begin`.
    """
    init_default_scope(cfg.default_scope)
    with _building(cfg):
        return MODELS.build(model_config(cfg))


def begin(runner: Runner, lines: Sequence[str] = ()) -> AbstractContextManager[None]:
    """Return a context for ``runner.train()`` or ``runner.test()``.

    MMEngine builds data loaders, optimizer, schedules and metrics in these calls. Errors before the first step are
    errors of the config. Before a training, one image is validated (:mod:`surge_mm.launch.first_validation`).

    Args:
        runner (Runner): the runner that is started in the context.
        lines (Sequence[str]): what is logged right before the first step, below MMEngine's hundreds of lines. Defaults
            to none.

    Raises:
        LaunchError: if a part of the config has a type that no registry has, or arguments that its class refuses, or
            if the validation would fail.
    """
    hook = _Begun(lines)
    for own in (hook, ProgressHook()):
        runner.register_hook(own, own.priority)
    return _building(runner.cfg, hook)


class _Begun(Hook):
    """Check the validation, log ``lines``, and record that the run begins, with everything built and loaded."""

    priority = 'LOWEST'

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = lines
        self.begun = False

    def before_train(self, runner: Runner) -> None:
        check_validation(runner)
        self.before_test(runner)

    def before_test(self, runner: Runner) -> None:
        log_findings(runner, self.lines)
        self.begun = True


@contextmanager
def _building(cfg: Config, hook: _Begun | None = None) -> Iterator[None]:
    """Turn errors in the block into a LaunchError, until ``hook`` has seen the beginning of the run."""
    try:
        yield
    except LaunchError:
        raise
    except Exception as error:
        explain_start(error, cfg)
        lost = isinstance(error, RuntimeError) and lost_a_rank(error)
        if lost or (hook is not None and hook.begun):
            raise
        raise LaunchError(f'config {cfg.filename!r}: {explain(error)}') from error
