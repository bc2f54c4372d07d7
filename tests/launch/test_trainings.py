import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from surge_mm.launch.trainings import remember_settings, train_all
from surge_mm.utils.errors import LaunchError

FAKE_TRAIN = """
import sys
from pathlib import Path

print('a line of the log')
name = Path(sys.argv[3]).parent.name
if 'good' not in name:
    sys.exit(f'error: no data{name[3:]}\\n')
"""


@pytest.mark.parametrize(
    'names, started, failures',
    [
        (['bad', 'bad_', 'good'], 3, ['bad', 'bad_']),  # two causes
        (['good', 'bad', 'bad2'], 3, ['bad', 'bad2']),
        (['bad', 'good', 'bad'], 3, ['bad', 'bad']),
        (['bad', 'bad', 'good', 'bad'], 2, ['bad', 'bad']),
    ],
)
def test_the_cause_of_a_failure_is_printed_and_two_equal_ones_at_the_start_end_all(
    names, started, failures, tmp_path, capsys
):
    script = tmp_path / 'train.py'
    script.write_text(FAKE_TRAIN)
    queue = [(name, seed) for seed, name in enumerate(names)]
    configs = dict.fromkeys(names, tmp_path / 'config.py')
    failed = train_all(queue, configs, tmp_path, [], 1, script)
    assert [name for name, _ in failed] == failures
    assert len(list(tmp_path.glob('*/seed_*/train.log'))) == started
    printed = capsys.readouterr().out
    for name, seed in failed:
        line = f'{name}, seed {seed} failed (exit status 1): error: no data{name[3:]}'
        assert line in printed.replace('\n', ' ') + ' '
    assert ('no further run was started' in printed) == (started < len(names))


def test_settings_of_a_folder_cannot_change_under_it(tmp_path):
    remember_settings(tmp_path / 'new' / 'demo.json', ['surge'])
    remember_settings(tmp_path / 'new' / 'demo.json', ['surge'])
    with pytest.raises(
        LaunchError, match="started with the settings \\['surge'\\], not \\['dpgc'\\]"
    ):
        remember_settings(tmp_path / 'new' / 'demo.json', ['dpgc'])


def test_damaged_settings_of_a_folder_are_an_error_that_names_the_file(tmp_path):
    (tmp_path / 'demo.json').write_text('["sur')
    with pytest.raises(LaunchError, match='demo.json.* is damaged .*Remove it'):
        remember_settings(tmp_path / 'demo.json', ['surge'])


SLOW_TRAIN = """
import os
import time
from pathlib import Path

Path(__file__).with_name('child').write_text(str(os.getpid()))
time.sleep(600)
"""

PARENT = """
import sys
from pathlib import Path

from surge_mm.launch.cli import run
from surge_mm.launch.trainings import train_all

folder = Path(sys.argv[1])
work = [('a', 0)], {'a': folder / 'a.py'}, folder, [], 1, folder / 'train.py'
run(lambda: train_all(*work), 'the advice')
"""


def test_sigterm_ends_the_trainings_too(tmp_path):
    (tmp_path / 'train.py').write_text(SLOW_TRAIN)
    command = [sys.executable, '-c', PARENT, str(tmp_path)]
    parent = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    child = tmp_path / 'child'
    while not (child.is_file() and child.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    parent.terminate()
    assert b'ended by SIGTERM; the advice' in parent.communicate(timeout=60)[1]
    assert parent.returncode == -signal.SIGTERM
    while Path(f'/proc/{child.read_text()}').exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f'/proc/{child.read_text()}').exists()


def test_the_cause_of_a_failure_is_that_of_the_last_attempt(tmp_path, capsys):
    (tmp_path / 'a' / 'seed_0').mkdir(parents=True)
    (tmp_path / 'a' / 'seed_0' / 'train.log').write_text('error: of an earlier attempt\n')
    (tmp_path / 'train.py').write_text('raise SystemExit(1)')
    failed = train_all([('a', 0)], {'a': tmp_path / 'a.py'}, tmp_path, [], 1, tmp_path / 'train.py')
    assert failed == [('a', 0)] and 'earlier' not in capsys.readouterr().out
