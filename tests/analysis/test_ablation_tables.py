import csv
import json
import re

from surge_mm.analysis.ablation import Run, summarize
from surge_mm.analysis.ablation_tables import as_csv, as_json, latex, markdown


def test_the_table_shows_what_is_known(runs):
    rows = summarize(runs, 'accuracy/top1', 'ste')
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


def test_metrics_of_glue_are_shown_as_percentages():
    run = Run([1, 2], [61.25, 62.5], 0.5, 0.2)
    table = markdown(summarize({'ste': {0: run}}, 'glue/matthews', 'ste'), 'ste')
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


def test_json_has_null_for_what_is_not_known(runs):
    def refused(constant):
        raise AssertionError(constant)

    rows = summarize(runs, 'accuracy/top1', 'ste')
    ste, surge, alone = json.loads(as_json(rows), parse_constant=refused)
    assert [row['name'] for row in (ste, surge, alone)] == ['ste', 'surge', 'alone']
    assert (alone['std'], alone['interval'], surge['p']) == (None, [None, None], None)
    assert surge['difference'] == 2.0


def test_csv_has_a_column_for_each_seed_and_empty_cells_for_what_is_not_known(runs):
    rows = list(csv.DictReader(as_csv(summarize(runs, 'accuracy/top1', 'ste')).splitlines()))
    assert [row['name'] for row in rows] == ['ste', 'surge', 'alone']
    assert [float(rows[1][key]) for key in ('mean', 'seed_0', 'seed_1', 'difference')] == [
        *(44, 43, 45, 2)
    ]
    assert rows[1]['difference_interval_low'] == ''
    assert [rows[2][key] for key in ('std', 'interval_low', 'p', 'seed_0')] == ['', '', '', '']


def test_latex_has_a_row_for_each_variant_with_special_characters_escaped(runs):
    named = {'ste_a&b': runs['ste'], **runs}
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


def test_latex_has_minus_signs_in_math_and_hyphens_in_names(runs):
    named = {'ste': runs['ste'], 'eta-0.3': {0: Run([1], [39.0], 0.5, 0.2)}}
    text = latex(summarize(named, 'accuracy/top1', 'ste'), 'ste')
    assert 'eta-0.3 & 39.00 &' in text and r'& $-$1.00 &' in text
