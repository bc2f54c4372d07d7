"""What is no packed file, or no whole one, is refused in a sentence; nothing is built of it."""

import hashlib
import io
import json
import sys
import zlib

import numpy as np
import pytest
import torch
from helpers.packed_files import classifier_config, packed_file
from mmengine.registry import MODELS
from safetensors.torch import save

from surge_mm.deploy import load_packed, save_packed
from surge_mm.deploy.packed_file.format import TEXTS, read_packed
from surge_mm.utils.errors import CheckpointError, UsageError


@pytest.fixture(scope='module')
def path(tmp_path_factory):
    return packed_file(classifier_config(), tmp_path_factory.mktemp('packed') / 'a.safetensors')


@pytest.fixture(autouse=True)
def nothing_is_built(monkeypatch, path):
    def build(*_, **__):
        raise AssertionError('built')

    monkeypatch.setattr(MODELS, 'build', build)


def refused(path, message):
    with pytest.raises(CheckpointError, match=message) as error:
        load_packed(path)
    assert str(path) in str(error.value) and '\n' not in str(error.value)


def picture():
    raw = b''.join(b'\0' + bytes(3 * 8) for _ in range(8))
    header = b'\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x08\0\0\0\x08\x08\x02\0\0\0'
    return header + zlib.compress(raw)


def checkpoint():
    buffer = io.BytesIO()
    torch.save({'state_dict': {'a': torch.ones(3)}}, buffer)
    return buffer.getvalue()


OTHERS = {
    'an image': picture(),
    'a checkpoint': checkpoint(),
    'nothing': b'',
    'zeros': bytes(1000),
    'a header without end': b'\xff' * 1000,
    'text': b'model = dict()\n' * 50,
    'other safetensors': save({'a': torch.ones(3)}, {'format': 'pt'}),
    'a list as header': (2).to_bytes(8, 'little') + b'[]',
    'brackets without end': (9999).to_bytes(8, 'little') + b'{"a":' + b'[' * 9994,
}


@pytest.mark.parametrize('name', OTHERS)
def test_the_error_for_another_file_names_the_export_tool(name, tmp_path):
    (tmp_path / 'other').write_bytes(OTHERS[name])
    refused(
        tmp_path / 'other',
        r'it is no packed model, or damaged\. Make one: .* python tools/export\.py',
    )


def test_a_path_that_is_not_a_file_is_refused(tmp_path):
    refused(tmp_path, 'it is a folder')
    refused('/dev/null', 'it cannot be read')
    refused(tmp_path / ('a' * 5000), 'it cannot be read .File name too long')
    refused(tmp_path / 'a.safetensors', 'it is missing')


def test_a_truncated_file_is_refused(path, tmp_path):
    raw = path.read_bytes()
    header = int.from_bytes(raw[:8], 'little')
    for length in (9, 100, header + 7, header + 8, header + 9, len(raw) - 1):
        (tmp_path / 'cut').write_bytes(raw[:length])
        refused(tmp_path / 'cut', 'no packed model, or damaged')


def test_an_altered_byte_is_detected(path, tmp_path):
    raw = path.read_bytes()
    header = int.from_bytes(raw[:8], 'little')
    rng = np.random.default_rng(0)
    places = [*rng.integers(8, 8 + header, 60), *rng.integers(8 + header, len(raw), 20)]
    for place in map(int, [*range(8), *places]):
        bit = 1 << int(rng.integers(8))
        altered = raw[:place] + bytes([raw[place] ^ bit]) + raw[place + 1 :]
        (tmp_path / 'altered').write_bytes(altered)
        refused(tmp_path / 'altered', 'damaged|version|malformed')
    (tmp_path / 'altered').write_bytes(altered[:-1] + bytes([altered[-1] ^ 1]))
    refused(tmp_path / 'altered', 'it is damaged or was altered: its checksum is wrong')
    (tmp_path / 'longer').write_bytes(raw + b'\0')
    refused(tmp_path / 'longer', 'damaged')


def parts_of(path):
    """Return the header, and the bytes of all tensors."""
    raw = path.read_bytes()
    end = 8 + int.from_bytes(raw[:8], 'little')
    return json.loads(raw[8:end]), raw[end:]


def with_texts(path, target, **texts):
    """Return the file with other texts in its header, and the old checksum."""
    header, data = parts_of(path)
    header['__metadata__'].update(texts)
    header['__metadata__'] = {k: v for k, v in header['__metadata__'].items() if v is not None}
    new = json.dumps(header).encode()
    target.write_bytes(len(new).to_bytes(8, 'little') + new + data)
    return target


def test_a_later_version_is_reported_first(path, tmp_path):
    later = with_texts(path, tmp_path / 'later', version='5', surge_mm='9.0', config='{}')
    refused(
        later,
        "it has version 5 of the format, written by surge_mm '9.0'; .* reads up to version 4: ",
    )
    refused(with_texts(path, tmp_path / 'a', version='9' * 5000), 'has version 9+ of the format')


@pytest.mark.parametrize('version', ['0', '-1', '1.5', '', 'x', '²'])
def test_an_unknown_version_is_reported_as_damage(version, path, tmp_path):
    refused(with_texts(path, tmp_path / 'a', version=version), 'damaged')


@pytest.mark.parametrize('key', TEXTS)
def test_the_checksum_covers_every_text(key, path, tmp_path):
    texts = parts_of(path)[0]['__metadata__']
    refused(with_texts(path, tmp_path / 'a', **{key: None}), 'damaged|malformed')
    if key not in ('format', 'version'):
        changed = with_texts(path, tmp_path / 'a', **{key: texts[key] + ' '})
        refused(changed, 'its checksum is wrong')


def test_without_safetensors_the_extra_is_named(path, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'safetensors', None)
    monkeypatch.setitem(sys.modules, 'safetensors.torch', None)
    for call in (
        lambda: load_packed(path),
        lambda: save_packed(torch.nn.ReLU(), tmp_path / 'b.safetensors', classifier_config()),
    ):
        with pytest.raises(UsageError, match='pip install "surge_mm\\[deploy\\]"'):
            call()


def checksum(header, data):
    """Of the documented bytes."""
    texts = header['__metadata__']
    kinds = {'F32': 'float32', 'U8': 'uint8', 'I64': 'int64'}
    said = ''.join(f'{key}\0{texts[key]}\0' for key in TEXTS).encode()
    for name in sorted(set(header) - {'__metadata__'}):
        entry = header[name]
        begin, end = entry['data_offsets']
        said += f'{name}\0torch.{kinds[entry["dtype"]]}\0{tuple(entry["shape"])}\0'.encode()
        said += data[begin:end]
    return hashlib.sha256(said).hexdigest()


def test_checksum_is_that_of_the_documented_bytes(path):
    header, data = parts_of(path)
    assert checksum(header, data) == header['__metadata__']['sha256'] == read_packed(path).sha256


@pytest.mark.parametrize(
    'texts',
    [
        {'same': '{"a": "nowhere"}'},
        {'same': '{"a": ["head.fc.bias"]}'},
        {'same': '[1]'},
        {'same': 'x'},
        {'config': 'x'},
        {'config': '[' * 100_000},
        {'config': '{"model":' * 100_000},
        {'config': '{"model": 1' + '0' * 9999 + '}'},
        {'config': '{"()": {}}'},
        {'config': '[]'},
    ],
)
def test_invalid_texts_with_a_valid_checksum_are_refused(texts, path, tmp_path):
    header, data = parts_of(path)
    header['__metadata__'].update(texts)
    texts['sha256'] = checksum(header, data)
    refused(with_texts(path, tmp_path / 'a', **texts), 'it is malformed|must be a dict')


@pytest.mark.parametrize('depth', [60, 450, 700])
def test_a_config_nested_too_deep_is_refused(depth, path, tmp_path, monkeypatch):
    monkeypatch.undo()
    header, data = parts_of(path)
    config = json.loads(header['__metadata__']['config'])
    deep = 1
    for level in range(depth):
        deep = {'a': deep} if level % 2 else [deep]
    config['model']['deep'] = deep
    header['__metadata__']['config'] = json.dumps(config)
    texts = {'config': header['__metadata__']['config'], 'sha256': checksum(header, data)}
    refused(
        with_texts(path, tmp_path / 'a', **texts),
        'cannot be built|recursion depth exceeded|malformed',
    )
