"""benchmarks/c_layers.py: the maps of both networks agree, and a row is printed; no time is judged."""

import runpy
import sys
from pathlib import Path

import pytest
from helpers.c_code import COMPILER

MAIN = runpy.run_path(str(Path(__file__).parents[2] / 'benchmarks/c_layers.py'))['main']


@pytest.mark.skipif(COMPILER is None, reason='no C compiler')
def test_a_row_is_printed_for_each_number_of_channels(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['c_layers.py', '--channels', '512', '--rounds', '1'])
    MAIN()
    assert capsys.readouterr().out.splitlines()[-1].startswith('| 512 | 7x7 | ')


def test_no_rounds_are_rejected(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', ['c_layers.py', '--rounds', '0'])
    with pytest.raises(SystemExit):
        MAIN()
    assert '--rounds 0 must be at least 1' in capsys.readouterr().err
