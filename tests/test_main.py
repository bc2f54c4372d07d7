"""``python -m surge_mm`` and the scripts that start several processes, from any folder."""

import os
import subprocess
import sys
from pathlib import Path

import mmdet
import pytest

from surge_mm import __main__ as program

ROOT = Path(__file__).parents[1]
TOOLS = sorted(path.stem for path in (ROOT / 'tools').glob('[!_]*.*') if path.suffix != '.pyc')


def call(monkeypatch, *words):
    monkeypatch.setattr(sys, 'argv', ['surge-mm', *map(str, words)])
    monkeypatch.setattr(sys, 'path', [*sys.path])
    program.main()


def test_every_tool_is_listed_with_its_purpose(monkeypatch, capsys):
    call(monkeypatch)
    rows = capsys.readouterr().out.rpartition('\n\n')[2].splitlines()
    assert [row.split()[0] for row in rows] == TOOLS
    assert all(len(row.split()) > 3 for row in rows)


def test_a_tool_runs_from_any_folder_by_its_name(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as done:
        call(monkeypatch, 'train', '--help')
    assert done.value.code == 0
    assert capsys.readouterr().out.startswith('usage: train.py ')


def test_an_unknown_tool_is_named_with_a_similar_one(monkeypatch):
    with pytest.raises(SystemExit, match="error: there is no tool 'tran'; did you mean 'train'?"):
        call(monkeypatch, 'tran', 'config.py')


def test_scripts_of_several_processes_get_the_python_of_the_package(monkeypatch):
    called = []
    monkeypatch.delenv('PYTHON', raising=False)
    monkeypatch.setattr(os, 'execvp', lambda *words: called.append((*words, os.environ['PYTHON'])))
    call(monkeypatch, 'dist_train', 'config.py', '8')
    script = str(program.TOOLS / 'dist_train.sh')
    assert called == [('bash', ['bash', script, 'config.py', '8'], sys.executable)]
    monkeypatch.delenv('PYTHON')


def test_a_script_and_a_module_run_with_the_stack_prepared(monkeypatch, capsys, tmp_path):
    code = 'import sys, mmcv._ext\nfrom helper import VALUE\nprint(__name__, sys.argv, VALUE)\n'
    (tmp_path / 'client').mkdir()
    (tmp_path / 'client/mine.py').write_text(code)
    (tmp_path / 'client/helper.py').write_text('VALUE = 7\n')
    monkeypatch.chdir(tmp_path)
    call(monkeypatch, 'run', 'client/mine.py', '--option', 'a')
    assert capsys.readouterr().out == "__main__ ['client/mine.py', '--option', 'a'] 7\n"
    monkeypatch.delitem(sys.modules, 'helper')
    monkeypatch.chdir('client')
    call(monkeypatch, 'run', '-m', 'mine', 'b')
    assert capsys.readouterr().out == f"__main__ ['{tmp_path / 'client/mine.py'}', 'b'] 7\n"
    monkeypatch.delitem(sys.modules, 'helper')


def test_a_tool_of_mmdetection_starts_by_run_without_a_compiled_mmcv(tmp_path):
    tool = Path(mmdet.__file__).parent / '.mim/tools/test.py'  # imports mmcv.ops at once
    command = [sys.executable, '-m', 'surge_mm', 'run', str(tool), '--help']
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('usage: test.py ') and 'MMDet test' in done.stdout


@pytest.mark.parametrize(
    ('words', 'said'), [([], 'usage: '), (['no.py'], "error: there is no program 'no.py'")]
)
def test_run_without_a_program_is_named(monkeypatch, words, said):
    with pytest.raises(SystemExit, match=said):
        call(monkeypatch, 'run', *words)


def fake_python(path, says):
    path.parent.mkdir(parents=True)
    path.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exit 0\necho {says} "$@"\n')
    path.chmod(0o755)


@pytest.mark.parametrize('script', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh'])
def test_scripts_without_an_active_environment_use_that_of_the_checkout(script, tmp_path):
    tools = tmp_path / 'tools'
    tools.mkdir()
    for path in (ROOT / 'tools').glob('*.sh'):
        (tools / path.name).write_text(path.read_text())
    (tmp_path / 'bin').mkdir()
    for name in ('bash', 'dirname'):
        (tmp_path / 'bin' / name).symlink_to(f'/usr/bin/{name}')
    (tmp_path / 'bin/srun').write_text(
        '#!/bin/bash\nwhile [[ $1 != *python ]]; do shift; done\nexec "$@"\n'
    )
    (tmp_path / 'bin/srun').chmod(0o755)
    words = {'dist_train.sh': ['c.py', '2'], 'dist_test.sh': ['c.py', 'a.pth', '2']}
    command = ['/usr/bin/bash', str(tools / script), *words.get(script, ['part', 'job', 'c.py'])]

    def run(**environment):
        environment = {'PATH': str(tmp_path / 'bin'), **environment}
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    alone = run()
    assert alone.returncode == 1 and 'activate its environment, or set PYTHON=' in alone.stderr
    fake_python(tmp_path / '.venv/bin/python', 'checkout')
    assert run().stdout.startswith('checkout ')
    fake_python(tmp_path / 'own/python', 'own')
    assert run(PYTHON=str(tmp_path / 'own/python')).stdout.startswith('own ')
    assert run(PATH=f'{tmp_path}/bin:{tmp_path}/own').stdout.startswith('own ')
