"""A file is complete or unchanged."""

import errno
import os
import secrets
from concurrent.futures import ThreadPoolExecutor

import pytest

from surge_mm.utils.atomic_write import write_atomically
from surge_mm.utils.errors import UsageError


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize('call', ['fsync', 'replace'])
def test_a_full_disk_is_an_error_and_leaves_the_previous_content(call, tmp_path, monkeypatch):
    file = tmp_path / 'epoch_1.pth'
    write_atomically(file, b'before')
    monkeypatch.setattr(os, call, full)
    with pytest.raises(UsageError, match='epoch_1.pth.*5 bytes.*No space left on device.*--resume'):
        write_atomically(file, b'after')
    monkeypatch.undo()
    assert [f.name for f in tmp_path.iterdir()] == ['epoch_1.pth']
    assert file.read_bytes() == b'before'


def test_a_full_device_is_an_error_and_leaves_no_partial_file(tmp_path, monkeypatch):
    monkeypatch.setattr(secrets, 'token_hex', lambda size: 'x')
    (tmp_path / '.epoch_1.pth.x.partial').symlink_to('/dev/full')
    with pytest.raises(UsageError, match='No space left on device'):
        write_atomically(tmp_path / 'epoch_1.pth', b'bytes')
    assert not (tmp_path / 'epoch_1.pth').exists()


def test_ranks_can_write_one_file_at_the_same_time(tmp_path):
    contents = [bytes([i]) * 100_000 for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(10):
            list(pool.map(lambda data: write_atomically(tmp_path / 'a.json', data), contents))
            assert (tmp_path / 'a.json').read_bytes() in contents
    assert [file.name for file in tmp_path.iterdir()] == ['a.json']


def test_the_error_has_the_given_advice(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UsageError, match="a.bin' .*could not be written.*: name another folder"):
        write_atomically(tmp_path / 'file' / 'a.bin', b'bytes', 'name another folder')
