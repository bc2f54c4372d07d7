"""tools/export.py with the name of a C file or of a library in C."""

import shutil
import subprocess

import pytest
from helpers.digits_folder import make_digits_folder
from helpers.user_folder import main_of

from surge_mm.utils.errors import UsageError


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return make_digits_folder(tmp_path_factory.mktemp('user'))


def test_a_c_file_has_the_largest_size_of_the_option(folder, monkeypatch, tmp_path, capsys):
    words = 'mine.py', 'epoch_1.pth', tmp_path / 'mine.c', '--shape'
    with pytest.raises(UsageError, match='image of 64x96 is smaller than .* resizes all pictures'):
        main_of('export', monkeypatch, folder, *words, 64, 96)
    assert not list(tmp_path.iterdir())
    main_of('export', monkeypatch, folder, *words, 160, 192)
    assert ') for images up to 160x192' in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {'mine.c', 'mine.h'}
    assert '(height <= 160 && width <= 192)' in (tmp_path / 'mine.c').read_text()


@pytest.mark.skipif(shutil.which('cc') is None, reason='no C compiler')
def test_a_library_in_c_comes_with_a_program_and_a_class_of_python(
    folder, monkeypatch, tmp_path, capsys
):
    monkeypatch.delenv('CC', raising=False)
    words = 'mine.py', 'epoch_1.pth', tmp_path / 'mine.so', '--with-main'
    main_of('export', monkeypatch, folder, *words)
    names = {'mine.c', 'mine.h', 'mine.so', 'mine_main.c', 'mine_numpy.py', 'mine'}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert f'{tmp_path / "mine"}: ' in capsys.readouterr().out
    done = subprocess.run([tmp_path / 'mine'], capture_output=True, text=True)
    assert done.returncode == 2 and 'usage: ' in done.stderr
    (tmp_path / 'mine.so').unlink()
    with pytest.raises(UsageError, match="mine.c' exists already"):
        main_of('export', monkeypatch, folder, *words)
