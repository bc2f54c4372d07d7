"""benchmarks/inference.py as a user runs it, from another folder; no time is judged."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / 'benchmarks/inference.py'


def benchmark(folder, *words):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_layer_is_measured_in_all_variants_and_drawn(tmp_path):
    words = [
        '--channels',
        '32',
        '--pixels',
        '8',
        '--rounds',
        '2',
        '--warmup',
        '0',
        '--threads',
        '1',
        '2',
    ]
    done = benchmark(tmp_path, 'layer', *words, '--plot', 'a.png', '--json', 'a.json')
    assert done.returncode == 0, done.stderr
    answer = json.loads((tmp_path / 'a.json').read_text())
    assert [row['variant'] for row in answer['rows']] == [
        'float',
        'int8',
        'packed',
        'packed, from signs',
    ]
    for row in answer['rows']:
        assert set(row['milliseconds']) == set(row['speed']) == {'1', '2'}
        assert all(len(times) == 2 and min(times) > 0 for times in row['all_milliseconds'].values())
        assert row['peak_MB'] > 50 and row['name'] == '32 channels at 8x8'
    assert answer['not_available'] == {} and answer['cpus_busy_elsewhere'] >= 0
    assert answer['rows'][0]['speed'] == {'1': 1.0, '2': 1.0}
    assert (tmp_path / 'a.png').stat().st_size > 1000
    assert '32 channels' in done.stdout


def test_a_detector_is_measured_and_the_missing_int8_is_explained(tmp_path):
    words = ['--pixels', '64', '--rounds', '1', '--warmup', '0', '--threads', '1']
    done = benchmark(tmp_path, 'detector', *words, '--json', 'a.json')
    assert done.returncode == 0, done.stderr
    answer = json.loads((tmp_path / 'a.json').read_text())
    assert [row['variant'] for row in answer['rows']] == ['float', 'packed']
    assert [row['gain'] for row in answer['rows']] == [None, None]
    assert answer['rows'][0]['file_MB'] > 5 * answer['rows'][1]['file_MB']
    assert list(answer['not_available']) == ['int8']
    assert 'int8 is not available: PyTorch' in done.stdout
