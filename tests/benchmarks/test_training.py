"""benchmarks/training.py on small networks; no time is judged."""

import json

import pytest
from helpers.tools import run_tool

QUICK = ['--steps', '1', '--warmup', '0', '--threads', '1', '--json', 'out.json']


def test_our_layer_saves_only_its_input_and_the_usual_one_saves_signs_too(
    run_script, tmp_path, capsys
):
    run_script('training', 'layer', '--batch', '2', '--pixels', '16', '--channels', '8', *QUICK)
    rows = {row['variant']: row for row in json.loads((tmp_path / 'out.json').read_text())['rows']}
    x, weights = 4 * 2 * 8 * 16 * 16 / 1e6, 4 * 8 * 8 * 9 / 1e6
    for name in ('full precision', 'STE', 'SURGE', 'SURGE lite'):
        eta = 4e-6 if 'SURGE' in name else 0
        assert rows[name]['saved_binary_MB'] == pytest.approx(x + eta)
    assert rows['usual STE']['saved_binary_MB'] == pytest.approx(2 * x + weights)
    assert rows['usual STE']['time'] == 1
    assert all(row['seconds'] > 0 and row['peak_MB'] == 123 for row in rows.values())
    output = capsys.readouterr().out
    assert all(name in output for name in rows)


def test_a_step_in_both_dtypes_is_one_table_with_ratios_to_float32(run_script, tmp_path):
    words = ['--batch', '2', '--channels', '8', '--dtype', 'bf16', 'fp32', '--cpu-time']
    run_script('training', 'resnet20', *words, *QUICK)
    rows = {row['variant']: row for row in json.loads((tmp_path / 'out.json').read_text())['rows']}
    assert len(rows) == 8 + 6
    assert rows['usual STE']['time'] == rows['usual STE']['saved_binary'] == 1
    # signs and scaled weights of half the size
    in_bf16 = rows['usual STE, autocast']['saved_binary']
    assert in_bf16 == pytest.approx(0.5, abs=0.1)
    saved = rows['SURGE']['saved_binary_MB']
    assert rows['SURGE, bf16 branch']['saved_binary_MB'] == saved


def test_growth_is_measured_and_drawn(run_script, tmp_path, capsys):
    words = ['--batch', '8', '--pixels', '64', '--channels', '8', '--growth', 'g.png']
    run_script('training', 'layer', *words, *QUICK)
    assert (tmp_path / 'g.png').stat().st_size > 1000
    batch, pixels, _ = json.loads((tmp_path / 'out.json').read_text())['rows']
    assert batch['sizes'] == [1, 2, 4, 8]
    assert pixels['sizes'] == [32**2, 64**2]
    for growth in (batch, pixels):
        per_size = [b / s for b, s in zip(growth['bytes']['SURGE'], growth['sizes'], strict=True)]
        assert per_size == pytest.approx([per_size[0]] * len(per_size), rel=1e-4)  # 4 bytes of eta
    assert 'exponent of memory in batch [1, 2, 4, 8]' in capsys.readouterr().out


def test_a_rejected_argument_gives_one_line_and_exit_status_1(tmp_path):
    done = run_tool('../benchmarks/training', 'layer', '--with-cp', folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines() == ['error: --with-cp is for the backbone']
