"""What the tools add to the log of a run."""

import pytest
from helpers.bad_runs import WHOLE, refusal

from surge_mm.launch import run_log


@pytest.mark.parametrize('seconds, lines', [(0, 1), (60, 0)])
def test_progress_is_logged_by_time_where_the_interval_of_the_logger_is_long(
    seconds, lines, tmp_path, monkeypatch
):
    monkeypatch.setattr(run_log, 'SECONDS', seconds)
    logger = {'type': 'LoggerHook', 'interval': 50, 'ignore_last': True}
    hooks = {**WHOLE['default_hooks'], 'logger': logger}
    assert refusal({**WHOLE, 'default_hooks': hooks, 'log_level': 'INFO'}, tmp_path) is None
    (log,) = tmp_path.rglob('*.log')
    text = log.read_text()
    assert [text.count(f'Epoch({mode}) [1][1/2]') for mode in ('train', 'val')] == [lines, lines]
    assert [text.count(f'Epoch({mode}) [1][2/2]') for mode in ('train', 'val')] == [1, 1]


def test_a_logger_that_is_not_silent_leaves_progress_to_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(run_log, 'SECONDS', 0)
    assert refusal({**WHOLE, 'log_level': 'INFO'}, tmp_path) is None
    (log,) = tmp_path.rglob('*.log')
    assert log.read_text().count('Epoch(train) [1][1/2]') == 1
