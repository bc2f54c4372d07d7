import json
import re

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.runner import LogProcessor
from mmpretrain.structures import DataSample

from surge_mm import GlueMetric

rng = np.random.default_rng(0)
LABELS = rng.integers(2, size=40)
SCORES = rng.dirichlet([1.0, 1.0], size=40)
PREDICTED = SCORES.argmax(1)
TRUTH, GUESS = rng.uniform(0, 5, 30), rng.uniform(0, 5, 30)


def evaluate(task, scores, labels, **options):
    evaluator = Evaluator([{'type': 'surge_mm.GlueMetric', 'task': task, **options}])
    samples = []
    for score, label in zip(scores, labels, strict=True):
        sample = DataSample().set_pred_score(torch.tensor(np.atleast_1d(score)))
        if task == 'stsb':
            sample.set_gt_score(torch.tensor([float(label)]))
        else:
            sample.set_gt_label(int(label))
        samples.append(sample)
    evaluator.process(samples[:7])
    evaluator.process(samples[7:])
    return evaluator.evaluate(len(samples))


def ranks(values):
    return np.argsort(np.argsort(values))


def test_classification_metrics_equal_their_formulas():
    true = (PREDICTED == 1) & (LABELS == 1)
    f1 = 2 * true.sum() / (PREDICTED.sum() + LABELS.sum())
    accuracy = (PREDICTED == LABELS).mean()
    nll = -np.log(SCORES[np.arange(40), LABELS]).mean()
    found = evaluate('mrpc', SCORES, LABELS)
    expected = {'glue/accuracy': 100 * accuracy, 'glue/f1': 100 * f1, 'glue/nll': nll}
    assert found == pytest.approx(expected, rel=1e-6)
    assert evaluate('qqp', SCORES, LABELS) == found
    assert evaluate('sst2', SCORES, LABELS).keys() == {'glue/accuracy', 'glue/nll'}
    found = evaluate('cola', SCORES, LABELS)
    assert found['glue/matthews'] == pytest.approx(100 * np.corrcoef(PREDICTED, LABELS)[0, 1])


@pytest.mark.parametrize('task', ['sst2', 'mrpc', 'cola', 'stsb'])
def test_the_log_has_each_evaluation_and_no_mean_over_several(task):
    scores = GUESS if task == 'stsb' else SCORES
    smoothed = LogProcessor().mean_pattern
    assert re.match(smoothed, 'glue/loss')
    names = evaluate(task, scores, TRUTH if task == 'stsb' else LABELS)
    assert not [name for name in names if re.match(smoothed, name)]


def test_labels_and_scores_are_written_in_the_order_of_the_data_set(tmp_path):
    evaluate('sst2', SCORES, LABELS, outfile=str(tmp_path / 'test' / 'rows.json'))
    rows = json.loads((tmp_path / 'test' / 'rows.json').read_text())
    assert [label for label, _ in rows] == LABELS.tolist()
    assert [score for _, score in rows] == SCORES.tolist()


def test_regression_metrics_equal_their_formulas():
    found = evaluate('stsb', GUESS, TRUTH)
    expected = {
        'glue/spearman': 100 * np.corrcoef(ranks(GUESS), ranks(TRUTH))[0, 1],
        'glue/pearson': 100 * np.corrcoef(GUESS, TRUTH)[0, 1],
        'glue/mse': ((GUESS - TRUTH) ** 2).mean(),
    }
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize('task, metric', [('cola', 'matthews'), ('stsb', 'pearson')])
def test_constant_predictions_have_no_correlation(task, metric):
    scores = np.ones(30) if task == 'stsb' else np.tile([0.9, 0.1], (30, 1))
    assert evaluate(task, scores, LABELS[:30])[f'glue/{metric}'] == 0


def test_three_classes_of_mnli():
    assert evaluate('mnli', np.eye(3), [0, 1, 1])['glue/accuracy'] == pytest.approx(200 / 3)


def test_an_unknown_task_is_named():
    with pytest.raises(ValueError, match="task='mrcp' is no task of GLUE.*did you mean 'mrpc'"):
        GlueMetric('mrcp')
