"""Every command in the documents fits its tool. Nothing is run."""

import re

import pytest
from helpers.documents import PAGES, ROOT, commands, name_of, parse, parse_module, words

COMMANDS = [(name_of(page), line) for page in PAGES for line in commands(page)]
TARGETS = set(re.findall(r'^([a-z-]+):', (ROOT / 'Makefile').read_text(), re.MULTILINE))
LAUNCHERS = {'tools/dist_train.sh': 1, 'tools/dist_test.sh': 2}
"""Launchers, and the number of positional arguments of the tool before the number of processes."""


@pytest.mark.parametrize('page, command', COMMANDS, ids=[f'{p}: {c}' for p, c in COMMANDS])
def test_command_fits_its_tool(page: str, command: str) -> None:
    program, *rest = words(command)
    check = {'python': python, 'make': make, 'pip': pip, 'source': source}.get(program, script)
    check(*rest) if check is not script else script(program, *rest)


def python(first: str, *rest: str) -> None:
    if first == '-c':
        compile(rest[0], 'documents', 'exec')
    elif first == '-m' and rest[0] == 'pytest':
        named = [word for word in rest[1:] if word.startswith('tests')]
        assert named and all((ROOT / word).exists() for word in named)
    elif first == '-m' and rest[0] == 'pip':
        pip(*rest[1:])
    elif first == '-m' and rest[0] == 'surge_mm':
        package(*rest[1:])
    elif first == '-m':
        parse_module(rest[0], list(rest[1:]))
    elif first.startswith('examples/'):
        try:
            parse(first, list(rest))
        except ModuleNotFoundError as error:  # a package that this one does not require
            pytest.skip(str(error))
    else:
        parse(first, list(rest))


def package(tool: str = '', *rest: str) -> None:
    if tool == 'run':
        assert rest  # any program
    elif f'tools/{tool}.sh' in LAUNCHERS:
        script(f'tools/{tool}.sh', *rest)
    elif tool not in ('', 'TOOL'):
        parse(f'tools/{tool}.py', list(rest))


def script(path: str, *rest: str) -> None:
    assert (ROOT / path).is_file(), path
    if path in LAUNCHERS:
        count = LAUNCHERS[path]
        positional, processes, more = rest[:count], rest[count], rest[count + 1 :]
        assert processes.isdigit()
        tool = path.replace('dist_', '').replace('.sh', '.py')
        parse(tool, [*positional, '--launcher', 'pytorch', *more])
    elif path == 'tools/slurm_train.sh':
        parse('tools/train.py', [rest[2], '--launcher', 'slurm', *rest[3:]])
    elif path.endswith('.py'):
        parse(path, list(rest))
    else:
        assert path == 'benchmarks/gpu/cifar10.sh' and all('=' in word for word in rest)


def make(*rest: str) -> None:
    targets = [word for word in rest if '=' not in word]
    assert targets and set(targets) <= TARGETS


def pip(action: str, *rest: str) -> None:
    assert action == 'install'
    for extras in re.findall(r'^\.\[([\w,]+)\]$', '\n'.join(rest), re.MULTILINE):
        for extra in extras.split(','):
            assert (ROOT / 'requirements' / f'{extra}.txt').is_file(), extra
    for file in [after for word, after in zip(rest, rest[1:], strict=False) if word == '-c']:
        assert (ROOT / file).is_file(), file


def source(path: str) -> None:
    assert path == '.venv/bin/activate'


def test_documents_have_commands_of_each_kind() -> None:
    programs = {words(line)[0] for _, line in COMMANDS}
    assert {'python', 'make', 'pip', 'source', *LAUNCHERS, 'tools/slurm_train.sh'} <= programs
