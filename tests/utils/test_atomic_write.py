"""A file is complete or unchanged."""

import errno
import os
import pickle
import secrets
import stat
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
    with pytest.raises(
        UsageError, match='epoch_1.pth.*5 bytes.*No space left on device.*free some space'
    ):
        write_atomically(file, b'after')
    monkeypatch.undo()
    assert [f.name for f in tmp_path.iterdir()] == ['epoch_1.pth']
    assert file.read_bytes() == b'before'


def test_a_full_device_is_an_error_and_leaves_no_partial_file(tmp_path, monkeypatch):
    monkeypatch.setattr(secrets, 'token_hex', lambda size: 'x')
    (tmp_path / '.epoch_1.x.pth.partial').symlink_to('/dev/full')
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


def test_a_link_keeps_its_place_and_its_target_gets_the_content(tmp_path):
    (tmp_path / 'disk').mkdir()
    target, link = tmp_path / 'disk' / 'a.pth', tmp_path / 'a.pth'
    link.symlink_to('disk/a.pth')
    for content in (b'one', b'two'):  # the target does not exist at first
        write_atomically(link, content)
        assert link.is_symlink() and target.read_bytes() == content
    assert len(list(tmp_path.rglob('*'))) == 3


@pytest.mark.parametrize('mode', [0o664, 0o600, 0o755])
def test_a_file_keeps_its_mode_and_a_new_one_has_that_of_open(mode, tmp_path):
    file, other = tmp_path / 'a.pth', tmp_path / 'b.pth'
    other.write_bytes(b'')
    write_atomically(file, b'one')
    assert file.stat().st_mode == other.stat().st_mode
    file.chmod(mode)
    write_atomically(file, b'two')
    assert stat.S_IMODE(file.stat().st_mode) == mode and file.read_bytes() == b'two'


def test_the_owner_is_kept(tmp_path):
    if os.getuid():
        pytest.skip('only root may give files away')
    file = tmp_path / 'a.pth'
    file.write_bytes(b'one')
    os.chown(file, 1234, 2345)
    write_atomically(file, b'two')
    assert (file.stat().st_uid, file.stat().st_gid) == (1234, 2345)


def test_all_names_of_a_hard_link_get_the_content(tmp_path):
    file, other = tmp_path / 'a.pth', tmp_path / 'b.pth'
    file.write_bytes(b'content before')
    os.link(file, other)
    write_atomically(file, b'two')
    assert other.read_bytes() == b'two'


def test_a_pipe_is_written_to_and_stays(tmp_path):
    pipe = tmp_path / 'pipe'
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    write_atomically(pipe, b'bytes')
    assert os.read(reader, 10) == b'bytes'
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_device_is_written_to_and_stays(tmp_path):
    (tmp_path / 'null').symlink_to('/dev/null')
    write_atomically(tmp_path / 'null', b'bytes')
    (tmp_path / 'full').symlink_to('/dev/full')
    with pytest.raises(OSError, match='No space left') as error:
        write_atomically(tmp_path / 'full', b'bytes')
    assert 'unchanged' not in str(error.value)
    assert all(stat.S_ISCHR(os.stat(f'/dev/{name}').st_mode) for name in ('null', 'full'))


@pytest.mark.parametrize(
    'name', ['a' * 254, 'a' * 250 + '.pth', 'é' * 125 + '.pth', '.' + 'é' * 126]
)
def test_a_name_of_the_greatest_length_is_written(name, tmp_path):
    for content in (b'one', b'two'):
        write_atomically(tmp_path / name, content)
        assert (tmp_path / name).read_bytes() == content
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_the_error_is_also_an_os_error(tmp_path):
    with pytest.raises(OSError) as error:
        write_atomically(tmp_path / ('a' * 256), b'bytes')
    assert isinstance(error.value, UsageError)
    assert error.value.errno == errno.ENAMETOOLONG
    assert error.value.filename == str(tmp_path / ('a' * 256))
    assert str(error.value).startswith(f"'{tmp_path}/aaa")
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)


def test_the_error_has_the_given_advice(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UsageError, match="a.bin' .*could not be written.*: name another folder"):
        write_atomically(tmp_path / 'file' / 'a.bin', b'bytes', 'name another folder')


def test_a_path_that_cannot_be_written_has_other_advice_than_a_full_disk(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UsageError, match='name a file in a folder that you may write to'):
        write_atomically(tmp_path / 'file' / 'a.bin', b'bytes')
