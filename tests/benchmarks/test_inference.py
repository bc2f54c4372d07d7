"""benchmarks/inference.py on small networks; no time is judged."""

import json

QUICK = ['--warmup', '0', '--json', 'a.json']


def test_a_layer_is_measured_in_all_variants_and_drawn(run_script, tmp_path, capsys):
    words = ['--channels', '32', '--pixels', '8', '--rounds', '2', '--threads', '1', '2']
    run_script('inference', 'layer', *words, '--plot', 'a.png', *QUICK)
    answer = json.loads((tmp_path / 'a.json').read_text())
    variants = [row['variant'] for row in answer['rows']]
    assert variants == ['float', 'int8', 'packed', 'packed, from signs']
    for row in answer['rows']:
        assert set(row['milliseconds']) == set(row['speed']) == {'1', '2'}
        assert all(len(times) == 2 and min(times) > 0 for times in row['all_milliseconds'].values())
        assert row['peak_MB'] == 123 and row['name'] == '32 channels at 8x8'
    assert answer['not_available'] == {} and answer['cpus_busy_elsewhere'] >= 0
    assert answer['rows'][0]['speed'] == {'1': 1.0, '2': 1.0}
    assert (tmp_path / 'a.png').stat().st_size > 1000
    assert '32 channels' in capsys.readouterr().out


def test_a_detector_is_measured_and_the_missing_int8_is_explained(run_script, tmp_path, capsys):
    run_script('inference', 'detector', '--pixels', '64', '--rounds', '1', '--threads', '1', *QUICK)
    answer = json.loads((tmp_path / 'a.json').read_text())
    assert [row['variant'] for row in answer['rows']] == [
        'float',
        'packed',
        'packed, real layers in int8',
    ]
    assert [row['gain'] for row in answer['rows']] == [None] * 3
    assert answer['rows'][0]['file_MB'] > 5 * answer['rows'][1]['file_MB']
    assert list(answer['not_available']) == ['int8']
    assert 'int8 is not available: PyTorch' in capsys.readouterr().out
