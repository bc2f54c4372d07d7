"""Several models are evaluated on the validation set of a config."""

import pytest
import torch
from helpers.bad_runs import WHOLE, Line, MeanError, Points
from mmengine.config import Config

from surge_mm.launch.validation_set import ValidationSet
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
