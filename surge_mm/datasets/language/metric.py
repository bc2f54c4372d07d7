"""The metrics of GLUE."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from surge_mm.datasets.language.tasks import TASKS
from surge_mm.registry import METRICS
from surge_mm.utils.argument_checks import checked
from surge_mm.utils.suggestions import did_you_mean

_Values = np.ndarray


def _correlation(function: Callable[..., Any]) -> Callable[[_Values, _Values], float]:
    def correlation(truth: _Values, predicted: _Values) -> float:
        constant = np.ptp(truth) == 0 or np.ptp(predicted) == 0
        return 0.0 if constant else float(function(truth, predicted).statistic)

    return correlation


FUNCTIONS: dict[str, Callable[[_Values, _Values], float]] = {
    'accuracy': accuracy_score,
    'f1': lambda truth, predicted: f1_score(truth, predicted, zero_division=0.0),
    'matthews': matthews_corrcoef,
    'pearson': _correlation(stats.pearsonr),
    'spearman': _correlation(stats.spearmanr),
}


@METRICS.register_module()
class GlueMetric(BaseMetric):
    """The official metrics of a GLUE task, in percent, and the error of the predicted probabilities or scores.

    - SST-2, MNLI, QNLI and RTE: ``glue/accuracy``
    - MRPC and QQP: ``glue/accuracy`` and ``glue/f1``
    - CoLA: ``glue/matthews``
    - STS-B: ``glue/spearman`` and ``glue/pearson``
    - all but STS-B: ``glue/nll``, the mean of -log p(label); STS-B: ``glue/mse``, the mean squared error

    Correlations of constant values are 0. (Of a metric whose name contains "loss", MMEngine would log the mean over all
    evaluations so far.)

    Args:
        task (str): Name of the task, as :class:`surge_mm.GlueDataset` has.
        collect_device (str): Where the results of all ranks are joined, ``'cpu'`` or ``'gpu'``. Defaults to 'cpu'.
        prefix (str, optional): Replaces ``glue`` in the names. Defaults to None.
        outfile (str, optional): JSON file for the rows ``[label, scores]`` in the order of the data set. Its folder is
            created. Defaults to None: no file.

    Raises:
        ValueError: if ``task`` is unknown.
    """

    default_prefix = 'glue'

    @checked
    def __init__(
        self,
        task: str,
        collect_device: str = 'cpu',
        prefix: str | None = None,
        outfile: str | None = None,
    ) -> None:
        if task not in TASKS:
            raise ValueError(f'task={task!r} is no task of GLUE{did_you_mean(task, list(TASKS))}')
        super().__init__(collect_device, prefix)
        self.task = TASKS[task]
        self.outfile = outfile

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Store the predictions of a batch.

        Args:
            data_batch (Any): Not used.
            data_samples (Sequence[dict]): Samples with ``pred_score`` and ``gt_label``, or with ``pred_score`` and
                ``gt_score`` for a regression.
        """
        truth = 'gt_label' if self.task.classes else 'gt_score'
        for sample in data_samples:
            score = sample['pred_score'].double().flatten().cpu().numpy()
            self.results.append((sample[truth].item(), score))

    def compute_metrics(self, results: list[tuple[float, np.ndarray]]) -> dict[str, float]:
        """Compute the metrics.

        Args:
            results (list[tuple]): Label and scores of each item.

        Returns:
            dict[str, float]: The metrics by name.
        """
        if self.outfile is not None:
            rows = [[label, score.tolist()] for label, score in results]
            Path(self.outfile).parent.mkdir(parents=True, exist_ok=True)
            Path(self.outfile).write_text(json.dumps(rows))
        truth = np.array([label for label, _ in results])
        scores = np.stack([score for _, score in results])
        if self.task.classes:
            predicted = scores.argmax(1)
            own = scores[np.arange(len(truth)), truth]
            error = 'nll', -np.log(np.maximum(own, np.finfo(np.float32).tiny))
        else:
            predicted = scores[:, 0]
            error = 'mse', (predicted - truth) ** 2
        values = {
            name: 100 * float(FUNCTIONS[name](truth, predicted)) for name in self.task.metrics
        }
        return {**values, error[0]: float(error[1].mean())}
