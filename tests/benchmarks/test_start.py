"""benchmarks/start.py: the steps of a process, and the table of several; no time is judged."""

import json
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.packed_files import detector_config, packed_file

START = runpy.run_path(str(Path(__file__).parents[2] / 'benchmarks/start.py'))


def run_main(monkeypatch, *words):
    monkeypatch.setattr(sys, 'argv', ['start.py', *map(str, words)])
    START['main']()


def test_a_process_reports_the_seconds_and_the_memory_of_each_step(tmp_path, monkeypatch, capsys):
    path = packed_file(detector_config(), tmp_path / 'detector.safetensors')
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((40, 50, 3), np.uint8))
    run_main(monkeypatch, path, tmp_path / 'a.png', '--once', '--lean')
    pairs = json.loads(capsys.readouterr().out)
    assert len(pairs) == len(START['STEPS']) and all(seconds > 0 for seconds, _ in pairs)


def test_the_table_has_medians_and_the_sum_of_what_follows_the_import_of_torch(
    tmp_path, monkeypatch, capsys
):
    seconds = iter([9.0, *(value for one in (1.0, 2.0, 6.0) for value in (one, one / 2))])

    def started(model, image, lean):
        return [[next_one := next(seconds), 400.0], *[[next_one, 10.0]] * 3]

    monkeypatch.setitem(START['main'].__globals__, 'started', started)
    run_main(monkeypatch, 'a', 'b', '--runs', '3', '--json', tmp_path / 'a.json')
    table = capsys.readouterr().out.splitlines()
    assert ' '.join(table[1].split()) == 'import torch 2.00 s 400 MB 1.00 s 400 MB'
    assert ' '.join(table[-1].split()) == 'after torch 6.00 s 30 MB 3.00 s 30 MB'
    assert json.loads((tmp_path / 'a.json').read_text())['lean_imports'][3] == [1.0, 10.0]
    with pytest.raises(SystemExit, match='exists already: name another file'):
        run_main(monkeypatch, 'a', 'b', '--json', tmp_path / 'a.json')
    with pytest.raises(SystemExit, match='--runs 0 must be at least 1'):
        run_main(monkeypatch, 'a', 'b', '--runs', '0')
