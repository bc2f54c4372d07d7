"""Several models are evaluated on the validation set of a config."""

from pathlib import Path

import pytest
import torch
from helpers.bad_runs import WHOLE, Line, MeanError, Points
from mmengine.config import Config
from mmengine.registry import METRICS
from torch.utils.data import ConcatDataset

from surge_mm.launch.validation_set import ValidationSet
from surge_mm.registry import DATASETS
from surge_mm.utils.errors import LaunchError


def test_models_in_turn_have_the_metrics_of_each():
    validation = ValidationSet(Config(WHOLE))
    x, y = map(torch.stack, zip(*map(Points().__getitem__, range(4)), strict=True))
    for slope in (2.0, 1.0):
        model = Line(bias=False)
        torch.nn.init.constant_(model.slope.weight, slope)
        assert validation.names_of_metrics(model) == ['line/error']
        expected = (slope * x - y).square().mean().item()
        assert validation.evaluate(model) == {'line/error': pytest.approx(expected)}
    assert len(validation) == 4


def test_a_metric_that_fails_on_one_batch_has_no_names_yet(monkeypatch):
    def compute_metrics(self, results):
        return {'error': sum(results)} if len(results) == 2 else {}

    monkeypatch.setattr(MeanError, 'compute_metrics', compute_metrics)
    validation, model = ValidationSet(Config(WHOLE)), Line()
    assert validation.names_of_metrics(model) == []
    assert list(validation.evaluate(model)) == ['line/error']


def test_a_config_without_the_set_is_refused():
    with pytest.raises(LaunchError, match='the config has no test_dataloader and test_evaluator'):
        ValidationSet(Config(WHOLE), 'test')


@pytest.mark.parametrize('kind', [{}, {'type': 'Evaluator'}])
def test_an_evaluator_with_metrics_is_built_as_in_a_run(kind):
    metrics = [WHOLE['val_evaluator'], {**WHOLE['val_evaluator'], 'prefix': 'again'}]
    validation = ValidationSet(Config({**WHOLE, 'val_evaluator': {**kind, 'metrics': metrics}}))
    names = ['line/error', 'again/error']
    assert validation.names_of_metrics(Line()) == list(validation.evaluate(Line())) == names


@DATASETS.register_module()
class TwoSets(ConcatDataset):
    def __init__(self, numbers):
        super().__init__([Points(number) for number in numbers])
        self.metainfo = {'cumulative_sizes': self.cumulative_sizes}


def test_an_evaluator_of_two_data_sets_gives_the_metrics_of_each():
    """The metric of the second set, of 3 points, is not known after the first batch."""
    loader = {**WHOLE['val_dataloader'], 'dataset': {'type': 'surge_mm.TwoSets', 'numbers': [4, 3]}}
    loader |= {'batch_size': 1, 'sampler': {'type': 'DefaultSampler', 'shuffle': False}}
    evaluator = {
        'type': 'mmdet.MultiDatasetsEvaluator',
        'dataset_prefixes': ['a', 'b'],
        'metrics': [WHOLE['val_evaluator']] * 2,
    }
    validation = ValidationSet(
        Config({**WHOLE, 'val_dataloader': loader, 'val_evaluator': evaluator})
    )
    model = Line(bias=False)
    torch.nn.init.constant_(model.slope.weight, 1.0)  # the error of point i is i^2
    assert validation.names_of_metrics(model) == []
    assert validation.evaluate(model) == {
        'a/line/error': pytest.approx((0 + 1 + 4 + 9) / 4),
        'b/line/error': pytest.approx((0 + 1 + 4) / 3),
    }


@METRICS.register_module()
class WritingError(MeanError):
    def __init__(self, outfile, outfile_prefix=None, **settings):
        super().__init__(**settings)
        self.paths = [Path(outfile), Path(f'{outfile_prefix}.json')]

    def compute_metrics(self, results):
        for path in self.paths:
            path.write_text(str(results))
        return super().compute_metrics(results)


@pytest.mark.parametrize('form', [lambda m: m, lambda m: [m], lambda m: {'metrics': m}])
def test_files_of_the_metrics_are_not_overwritten(tmp_path, form):
    metric = {
        'type': 'mmengine.WritingError',
        'outfile': str(tmp_path / 'mine.json'),
        'outfile_prefix': str(tmp_path / 'results'),
    }
    for name in ('mine.json', 'results.json'):
        (tmp_path / name).write_text('of another model')
    cfg = Config({**WHOLE, 'val_evaluator': form(metric)})
    validation = ValidationSet(cfg)
    assert validation.names_of_metrics(Line()) == list(validation.evaluate(Line())) == ['error']
    for name in ('mine.json', 'results.json'):
        assert (tmp_path / name).read_text() == 'of another model'
