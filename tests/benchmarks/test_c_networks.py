"""benchmarks/c_networks.py: the maps in C and in Python agree, and all variants are printed; no time is judged."""

import runpy
import sys
from pathlib import Path

import pytest
from helpers.c_code import COMPILER
from helpers.packed_files import NARROW_FCOS

ROOT = Path(__file__).parents[2]
MAIN = runpy.run_path(str(ROOT / 'benchmarks/c_networks.py'))['main']


@pytest.mark.skipif(COMPILER is None, reason='no C compiler')
def test_all_variants_are_printed(monkeypatch, capsys):
    config = str(ROOT / 'configs/demo/ste_fcos-1bit_r18-light_10e_digits.py')
    words = ['--shape', '64', '64', '--rounds', '1', '--threads', '1', '2', '--real', 'int8']
    narrow = (f'{key}={value}'.replace(' ', '') for key, value in NARROW_FCOS.items())
    arguments = ['c_networks.py', config, *words, '--cfg-options', *narrow]
    monkeypatch.setattr(sys, 'argv', arguments)
    monkeypatch.setattr('surge_mm.deploy.c.compile.OPTIMIZE', ('-std=c99', '-O1'))  # half the time
    MAIN()
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split(' | ')[0] for line in lines if line.startswith('| ')]
    assert rows[2:] == ['| C', '| C, 2 threads', '| Python', '| Python, modules']
    assert [line.partition(':')[0] for line in lines[-3:]] == [
        'C by Python',
        'C by Python, modules',
        'C, 2 threads by C',
    ]
