import os

import pytest

from surge_mm.utils import files
from surge_mm.utils.files import check_each, file_defect


def test_check_each_keeps_the_order_and_shows_no_bar_for_few_paths(capsys):
    paths = [str(n) for n in range(100)]
    assert check_each(int, paths, 'numbers') == [(path, int(path)) for path in paths]
    assert capsys.readouterr().err == ''


def test_check_each_shows_a_bar_for_many_paths(monkeypatch, capsys):
    monkeypatch.setattr(files, 'PATHS_WITHOUT_BAR', 2)
    check_each(int, ['1', '2'], 'numbers')
    assert 'numbers' in capsys.readouterr().err


def test_a_file_and_a_link_to_one_have_no_defect(tmp_path):
    (tmp_path / 'file').touch()
    (tmp_path / 'link').symlink_to('file')
    assert file_defect(str(tmp_path / 'file')) is None
    assert file_defect(str(tmp_path / 'link')) is None


def test_what_is_not_a_file_is_described_and_not_opened(tmp_path):
    (tmp_path / 'dangling').symlink_to('gone')
    (tmp_path / 'loop').symlink_to('loop')
    os.mkfifo(tmp_path / 'pipe')
    assert file_defect(str(tmp_path / 'none')) == 'is missing'
    assert file_defect(str(tmp_path / 'dangling')) == 'is a link to gone, which is missing'
    assert file_defect(str(tmp_path / 'loop')).startswith('cannot be read (Too many levels')
    assert file_defect(str(tmp_path / 'pipe')) == 'cannot be read (it is a pipe or device)'
    assert file_defect('/dev/zero') == 'cannot be read (it is a pipe or device)'
    assert file_defect(str(tmp_path)) == 'is a folder'


@pytest.mark.parametrize('name', ['a\0b', '\ud800', 'x' * 5000])
def test_what_cannot_be_a_name_is_described(name):
    assert file_defect(name).startswith('cannot be')
