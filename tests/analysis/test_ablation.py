import csv
import json
import re

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from surge_mm.analysis.ablation import (
    Run,
    as_csv,
    as_json,
    latex,
    markdown,
    plot,
    read_run,
    summarize,
)


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


def test_differences_to_the_baseline_are_paired_by_seed():
    tops = {'ste': [40.0, 44.0, 42.0, 41.0], 'surge': [43.0, 45.0, 44.5, 40.5]}
    many = {
        name: {seed: Run([1], [top], 0.5, 1.0) for seed, top in enumerate(values)}
        for name, values in tops.items()
    }
    many['surge'][9] = Run([1], [99.0], 0.5, 1.0)  # without a run of the baseline
    ste, surge = summarize(many, 'accuracy/top1', 'ste')
    paired = stats.ttest_rel(tops['surge'], tops['ste']).confidence_interval(0.95)
    assert surge.difference == pytest.approx(1.5)
    assert surge.difference_interval == pytest.approx((paired.low, paired.high))
    assert (
        surge.p == 4 / 16
    )  # differences 3, 1, 2.5, -0.5: the mean is as far from 0 with 0.5 as well
    own = stats.t.interval(0.95, 3, np.mean(tops['ste']), stats.sem(tops['ste']))
    assert ste.interval == pytest.approx(own)
    assert np.isnan([ste.difference, *ste.difference_interval, ste.p]).all()


def test_the_table_shows_what_is_known():
    rows = summarize(runs(), 'accuracy/top1', 'ste')
    table = markdown(rows, 'ste')
    assert (
        '| ste (baseline) | 42.00 ± 2.83 |  | 40.00 (0), 44.00 (1) | 0.500 | 1.00 |  |  |  |'
        in table
    )
    assert (
        '| surge | 44.00 ± 1.41 |  | 43.00 (0), 45.00 (1) | 0.500 | 1.75 | +2.00 |  |  |' in table
    )
    assert 'Below 3 seeds there is neither' in table
    assert 'change the time per step' in table
    assert '| alone | 50.00 |  | 50.00 (7) | 0.500 | not known |  |  |  |' in table
    assert table.startswith('| variant | top-1 accuracy, mean ± std | 95 % interval | each seed |')


def test_metrics_of_glue_are_found_and_shown_as_percentages(tmp_path):
    folder = write_log(tmp_path, [61.25, 62.5], metric='glue/matthews')
    metric, run = read_run(folder)
    assert metric == 'glue/matthews'
    table = markdown(summarize({'ste': {0: run}}, metric, 'ste'), 'ste')
    assert table.startswith('| variant | Matthews correlation, mean ± std |')
    assert '| ste (baseline) | 62.50 |' in table
    error = markdown(summarize({'ste': {0: run}}, 'glue/nll', 'ste'), 'ste')
    assert '| ste (baseline) | 62.500 |' in error


def test_three_seeds_have_intervals_and_equal_differences_none():
    tops = {'ste': [40.0, 44.0, 42.0], 'surge': [41.0, 47.0, 44.0], 'same': [39.0, 43.0, 41.0]}
    three = {
        name: {seed: Run([1], [top], 0.5, 1.0) for seed, top in enumerate(values)}
        for name, values in tops.items()
    }
    table = markdown(summarize(three, 'accuracy/top1', 'ste'), 'ste')
    # 42 -+ 4.3027 * 2 / sqrt(3), and 2 -+ 4.3027 / sqrt(3)
    assert '| ste (baseline) | 42.00 ± 2.00 | 37.03 to 46.97 |' in table
    assert '| +2.00 | -0.48 to +4.48 | 0.250 |' in table
    assert '| -1.00 |  | 0.250 |' in table


def test_json_has_null_for_what_is_not_known():
    def refused(constant):
        raise AssertionError(constant)

    rows = summarize(runs(), 'accuracy/top1', 'ste')
    ste, surge, alone = json.loads(as_json(rows), parse_constant=refused)
    assert [row['name'] for row in (ste, surge, alone)] == ['ste', 'surge', 'alone']
    assert (alone['std'], alone['interval'], surge['p']) == (None, [None, None], None)
    assert surge['difference'] == 2.0


def test_csv_has_a_column_for_each_seed_and_empty_cells_for_what_is_not_known():
    rows = list(csv.DictReader(as_csv(summarize(runs(), 'accuracy/top1', 'ste')).splitlines()))
    assert [row['name'] for row in rows] == ['ste', 'surge', 'alone']
    assert [float(rows[1][key]) for key in ('mean', 'seed_0', 'seed_1', 'difference')] == [
        *(44, 43, 45, 2)
    ]
    assert rows[1]['difference_interval_low'] == ''
    assert [rows[2][key] for key in ('std', 'interval_low', 'p', 'seed_0')] == ['', '', '', '']


def test_latex_has_a_row_for_each_variant_with_special_characters_escaped():
    named = {'ste_a&b': runs()['ste'], **runs()}
    text = latex(summarize(named, 'accuracy/top1', 'ste_a&b'), 'ste_a&b')
    lines = text.splitlines()
    start = lines.index(r'\begin{tabular}{lrrrrrrr}')
    assert start > 2 and all(re.match('% .+[.]$', line) for line in lines[:start])
    assert lines[-1] == r'\end{tabular}'
    header, first, *_, last = lines[start + 2], *lines[start + 4 : -2]
    assert header.count(' & ') == first.count(' & ') == 7
    assert first.startswith(r'ste\_a\&b (baseline) & 42.00 $\pm$ 2.83 &  & 2 & 1.00 &')
    assert last.startswith('alone & 50.00 &  & 1 &')
    assert r'95 \% interval' in header and header.endswith(r'\\')


def test_latex_has_minus_signs_in_math_and_hyphens_in_names():
    named = {'ste': runs()['ste'], 'eta-0.3': {0: Run([1], [39.0], 0.5, 0.2)}}
    text = latex(summarize(named, 'accuracy/top1', 'ste'), 'ste')
    assert 'eta-0.3 & 39.00 &' in text and r'& $-$1.00 &' in text


def test_the_picture_has_a_curve_for_each_variant(tmp_path):
    picture = plot(runs(), 'accuracy/top1', tmp_path / 'new' / 'curves.png')
    pixels = np.asarray(Image.open(picture).convert('RGB')).reshape(-1, 3)
    for colour in ((31, 119, 180), (255, 127, 14), (44, 160, 44)):  # the first three of tab10
        assert (np.abs(pixels.astype(int) - colour).max(1) < 3).sum() > 50


def test_a_single_evaluation_is_a_point(tmp_path):
    one = {'ste': {0: Run([1], [40.0], 0.5, 0.2)}}
    pixels = np.asarray(Image.open(plot(one, 'accuracy/top1', tmp_path / 'a.png')).convert('RGB'))
    axes = pixels[150:500, 200:]  # below the legend
    assert (np.abs(axes.astype(int) - (31, 119, 180)).max(-1) < 3).sum() > 20
