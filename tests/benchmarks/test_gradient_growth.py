"""The growth of the gradient against the rule for eta, and in both forms of AGS."""

import math
import runpy
from pathlib import Path

import pytest

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / 'benchmarks' / 'gradient_growth.py'))


def growth(act='PReLU', **compensator):
    return SCRIPT['growth'](20, act, {'compensator': compensator}, [0])


@pytest.mark.parametrize('act', ['PReLU', 'Hardtanh'])
def test_the_gradient_grows_as_the_rule_of_eta_assumes(act):
    assert math.log(growth(act, eta=0.1)) == pytest.approx(0.35 * 0.1 * 18, rel=0.2)


def test_the_norm_preserving_form_grows_with_prelu_and_shrinks_with_hardtanh():
    assert growth(eta=1, preserve_norm=True) > 3
    assert growth('Hardtanh', eta=1, preserve_norm=True) < 0.7


def test_the_gain_of_ste_gain_grows_as_surge_does():
    gain = SCRIPT['growth'](20, 'PReLU', {'activation': {'gain': 1.08}}, [0])
    assert gain == pytest.approx(growth(eta=0.1), rel=0.1)
