import pytest

from surge_mm.analysis.ablation import Run


@pytest.fixture
def runs():
    def run(last, seconds):
        return Run([1, 2], [10.0, last], 0.5, seconds)

    return {
        'ste': {0: run(40.0, 0.2), 1: run(44.0, 0.4)},
        'surge': {0: run(43.0, 0.3), 1: run(45.0, 0.8)},
        'alone': {7: run(50.0, 1.0)},
    }
