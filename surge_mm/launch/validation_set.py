"""The validation set of a config, for tools that evaluate several models on it."""

from __future__ import annotations

import contextlib
import copy
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.logging import MMLogger
from mmengine.registry import EVALUATOR
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from surge_mm.preflight.datasets import check_datasets
from surge_mm.utils.errors import LaunchError, UsageError

OUTPUTS = {'outfile', 'outfile_prefix', 'out_file_path', 'output_dir', 'save_dir'}
"""Arguments of metrics for files that they write."""


class ValidationSet:
    """Validation set of a config, with its metrics. The default scope must be that of ``cfg``.

    Files that the metrics write go to a temporary folder, since those of the config are of its own model.

    Args:
        cfg (Config): Config of the models.
        split (str): ``'val'``, or ``'test'`` for the test set. Defaults to 'val'.

    Raises:
        LaunchError: if the config has no such set, or its data are not there.
    """

    def __init__(self, cfg: Config, split: str = 'val') -> None:
        keys = f'{split}_dataloader', f'{split}_evaluator'
        if not all(cfg.get(key) for key in keys):
            raise LaunchError(f'the config has no {keys[0]} and {keys[1]}')
        try:
            check_datasets(cfg, (split,))
        except UsageError as error:
            raise LaunchError(f'the {split} set is not there ({error!s:.200})') from error
        self._loader: DataLoader = Runner.build_dataloader(cfg[keys[0]], seed=0)
        self._folder = tempfile.TemporaryDirectory()
        config = copy.deepcopy(cfg[keys[1]])
        _redirect(config, Path(self._folder.name))
        self._evaluator, self._trial = (_build_evaluator(config) for _ in range(2))
        for evaluator in (self._evaluator, self._trial):
            evaluator.dataset_meta = getattr(self._loader.dataset, 'metainfo', None)

    def __len__(self) -> int:
        return len(self._loader.dataset)  # type: ignore[arg-type]

    def evaluate(self, model: Any) -> dict[str, float]:
        """Return the metrics of a model by name, without output.

        Args:
            model (BaseModel): A model of MMEngine. It is left in evaluation mode.
        """
        model.eval()
        with _quiet('WARNING'):
            for batch in self._loader:
                self._evaluator.process(data_samples=model.val_step(batch), data_batch=batch)
            return self._evaluator.evaluate(len(self))

    def names_of_metrics(self, model: Any) -> list[str]:
        """Return the names of the metrics, from an evaluation of the first batch.

        The list is empty if a metric does not give any for this batch, for instance without a detection, or if the
        evaluator is one of several data sets.

        Args:
            model (BaseModel): A model of MMEngine. It is left in evaluation mode.
        """
        if type(self._trial) is not Evaluator:  # another may need all images
            return []
        model.eval()
        with _quiet('CRITICAL'), contextlib.suppress(Exception):  # a metric may need all images
            batch = next(iter(self._loader))
            self._trial.process(data_samples=model.val_step(batch), data_batch=batch)
            found = [metric.evaluate(len(self)) for metric in self._trial.metrics]
            if all(found):
                return [name for metrics in found for name in metrics]
        return []


def _build_evaluator(config: Any) -> Evaluator:
    """Build an evaluator as MMEngine's Runner does: from its own config with ``metrics``, or from metrics alone."""
    if isinstance(config, dict) and 'metrics' in config:
        return EVALUATOR.build({'type': 'Evaluator', **config})
    return Evaluator(config)


def _redirect(config: Any, folder: Path) -> None:
    """Let the metrics in the config of an evaluator write their files into another folder; changed in place."""
    if isinstance(config, (list, tuple)):
        for item in config:
            _redirect(item, folder)
    elif 'metrics' in config:
        _redirect(config['metrics'], folder)
    else:
        for key in OUTPUTS & config.keys():
            if config[key]:
                config[key] = str(folder / Path(config[key]).name)


@contextlib.contextmanager
def _quiet(level: str) -> Iterator[None]:
    """Compute without gradients and without output; metrics log whole tables."""
    logger = MMLogger.get_current_instance()
    before = logger.level
    logger.setLevel(level)
    try:
        with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(before)
