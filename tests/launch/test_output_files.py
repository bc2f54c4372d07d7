import argparse

import pytest

from surge_mm.launch.output_files import (
    add_json,
    add_report_folder,
    check_output,
    check_report_folder,
)
from surge_mm.utils.errors import UsageError


def parsed(*words):
    parser = argparse.ArgumentParser()
    add_json(parser)
    return parser.parse_args(words)


def test_a_new_file_a_replaced_one_and_a_device_are_accepted(tmp_path):
    (tmp_path / 'old.json').write_text('{}')
    for words in (
        [],
        ['--json', str(tmp_path / 'new/a.json')],
        ['--json', str(tmp_path / 'old.json'), '--overwrite'],
        ['--json', '/dev/null'],
    ):
        check_output(parsed(*words), 'json', '.json')


@pytest.mark.parametrize(
    ('name', 'overwrite', 'message'),
    [
        ('.', True, 'is a folder'),
        ('old.json', False, 'exists already: name another file, or add --overwrite'),
        ('model.pth', True, 'must end in .json'),
        ('link.json', True, 'is an input'),
    ],
)
def test_a_file_that_would_be_lost_is_refused(name, overwrite, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file in ('old.json', 'model.pth', 'input.json'):
        (tmp_path / file).write_text('{}')
    (tmp_path / 'link.json').symlink_to('input.json')
    args = parsed('--json', name, *(['--overwrite'] if overwrite else []))
    with pytest.raises(UsageError, match=f"^--json '{name}' {message}"):
        check_output(args, 'json', '.json', ['input.json'])


def test_an_earlier_report_is_replaced_with_overwrite_alone(tmp_path):
    parser = argparse.ArgumentParser()
    add_report_folder(parser)
    words = ['--work-dir', str(tmp_path)]
    check_report_folder(parser.parse_args(words), 'report.json')
    (tmp_path / 'report.json').touch()
    with pytest.raises(UsageError, match='has report.json already: use another .* --overwrite'):
        check_report_folder(parser.parse_args(words), 'report.json')
    check_report_folder(parser.parse_args([*words, '--overwrite']), 'report.json')
