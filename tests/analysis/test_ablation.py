import json

import numpy as np
import pytest
from PIL import Image

from surge_mm.analysis.ablation import Run, as_json, markdown, plot, read_run, summarize


def write_log(folder, values, seconds=0.2, metric='accuracy/top1', losses=None):
    """Write a log as MMEngine does: ten lines of training and one of evaluation an epoch."""
    file = folder / '20260101_000000' / 'vis_data' / 'scalars.json'
    file.parent.mkdir(parents=True)
    lines, step = [], 0
    for epoch, value in enumerate(values, start=1):
        for _ in range(10):
            step += 1
            loss = losses[step - 1] if losses else 1 / step
            lines.append(
                {
                    'loss': loss,
                    'time': seconds + 0.05,
                    'data_time': 0.05,
                    'epoch': epoch,
                    'step': step,
                }
            )
        lines.append({metric: value, 'step': epoch})
    file.write_text('\n'.join(map(json.dumps, lines)) + '\n')
    return folder


def test_a_run_is_read_from_its_log(tmp_path):
    losses = [5.0] * 27 + [1.0, 2.0, 3.0]
    metric, run = read_run(write_log(tmp_path, [40.0, 50.0, 45.0], 0.3, losses=losses))
    assert metric == 'accuracy/top1'
    assert run.steps == [1, 2, 3]
    assert run.values == [40.0, 50.0, 45.0]
    assert run.loss == pytest.approx(2.0)
    assert run.seconds == pytest.approx(0.3)


def test_a_metric_that_was_not_logged_is_refused_with_those_that_were(tmp_path):
    write_log(tmp_path, [1.0], metric='single-label/precision')
    with pytest.raises(ValueError, match='no metric .* it has single-label/precision, step'):
        read_run(tmp_path)
    metric, _ = read_run(tmp_path, 'single-label/precision')
    assert metric == 'single-label/precision'


def runs():
    def run(last, seconds):
        return Run([1, 2], [10.0, last], 0.5, seconds)

    return {
        'ste': {0: run(40.0, 0.2), 1: run(44.0, 0.4)},
        'surge': {0: run(43.0, 0.3), 1: run(45.0, 0.8)},
        'alone': {7: run(50.0, 1.0)},
    }


def test_rows_have_mean_sample_deviation_and_time_against_the_same_seed():
    ste, surge, alone = summarize(runs(), 'accuracy/top1', 'ste')
    assert (ste.mean, ste.relative_time) == (42.0, 1.0)
    assert ste.std == pytest.approx(np.std([40, 44], ddof=1))
    assert surge.relative_time == pytest.approx((0.3 / 0.2 + 0.8 / 0.4) / 2)
    assert np.isnan(alone.std) and np.isnan(alone.relative_time)


def test_the_table_shows_what_is_known():
    rows = summarize(runs(), 'accuracy/top1', 'ste')
    table = markdown(rows, 'ste')
    assert '| ste | 42.00 ± 2.83 | 40.00 (0), 44.00 (1) | 0.500 | 1.00 |' in table
    assert '| alone | 50.00 | 50.00 (7) | 0.500 | not known |' in table
    assert table.startswith('| variant | top-1 accuracy, mean ± std | each seed |')
    assert [row['name'] for row in json.loads(as_json(rows))] == ['ste', 'surge', 'alone']


def test_the_picture_has_a_curve_for_each_variant(tmp_path):
    picture = plot(runs(), 'accuracy/top1', tmp_path / 'new' / 'curves.png')
    pixels = np.asarray(Image.open(picture).convert('RGB')).reshape(-1, 3)
    for colour in ((31, 119, 180), (255, 127, 14), (44, 160, 44)):  # the first three of tab10
        assert (np.abs(pixels.astype(int) - colour).max(1) < 3).sum() > 50
