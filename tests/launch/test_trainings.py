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
