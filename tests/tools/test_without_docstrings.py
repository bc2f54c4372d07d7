"""Tools and benchmarks begin without docstrings too, as under PYTHONOPTIMIZE=2."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = [
    file
    for folder in ('tools', 'benchmarks')
    for file in sorted((ROOT / folder).glob('*.py'))
    if 'parse_args(' in file.read_text()
]


@pytest.mark.parametrize('file', PROGRAMS, ids=lambda file: f'{file.parent.name}/{file.name}')
def test_help_is_printed(file, monkeypatch, capsys):
    code = compile(file.read_text(), str(file), 'exec', optimize=2)
    monkeypatch.setattr(sys, 'argv', [str(file), '--help'])
    monkeypatch.syspath_prepend(str(file.parent))
    with pytest.raises(SystemExit) as ended:
        exec(code, {'__name__': '__main__', '__file__': str(file), '__doc__': None})
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith('usage: ')


def test_the_programs_are_found():
    assert len(PROGRAMS) > 10
