"""Checkpoints as an attacker, a broken disk or a mistaken user would make them: generators, and what betrays harm.

Most begin with a real checkpoint of a run and change one thing of it.
"""

import io
import os
import pickle
import pickletools
import resource
import struct
import sys
import tarfile
import zipfile
from collections import OrderedDict
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

HARM = (
    *('os.system', 'os.exec', 'os.posix_spawn', 'os.spawn', 'os.fork', 'subprocess.Popen'),
    *('os.remove', 'os.rename', 'os.rmdir', 'shutil.rmtree', 'os.mkdir', 'os.putenv'),
    *('exec', 'compile', 'socket.connect', 'ctypes.dlopen', 'ctypes.dlsym', 'pty.spawn'),
)
"""Events of ``sys.addaudithook`` which loading a checkpoint never causes."""

_listening: list[list[str]] = []


def _listen(event, arguments):
    if _listening and event in HARM and not _is_import(event):
        _listening[-1].append(event)


def _is_import(event):
    """Whether it is a module, which torch imports when it is first needed, that compiles and runs its code."""
    if event not in ('exec', 'compile'):
        return False
    frame = sys._getframe(2)
    while frame and not frame.f_code.co_filename.startswith('<frozen importlib'):
        frame = frame.f_back
    return frame is not None


sys.addaudithook(_listen)


@contextmanager
def canary():
    """Gives the list of harmful things that the process does meanwhile."""
    heard: list[str] = []
    _listening.append(heard)
    try:
        yield heard
    finally:
        _listening.pop()


@contextmanager
def little_memory(more=2**30):
    """The process may grow by so many bytes and no further."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


class Call:
    """Pickles as the result of a call, with a state given to it."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.reduced

    def __call__(self):
        raise AssertionError('only to be pickled: pickle wants a callable')


def run_state(model):
    """The checkpoint of a run, as MMEngine saves it."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return {
        'meta': {'epoch': 1, 'iter': 6, 'seed': 3, 'cfg': 'a = 1', 'experiment_name': 'x'},
        'state_dict': model.state_dict(),
        'message_hub': {
            'log_scalars': OrderedDict({'train/loss': HistoryBuffer([1.0, 2.0], [1, 1])}),
            'runtime_info': OrderedDict(epoch=1, iter=6, best_score=np.float64(0.5)),
            'resumed_keys': OrderedDict({'train/loss': True, 'epoch': True}),
        },
        'optimizer': optimizer.state_dict(),
        'param_schedulers': [{'last_step': 6, 'base_values': [0.1]}],
    }


def saved(value, legacy=False):
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


# What runs code where weights_only is off


def python(command):
    return f'__import__("os").system({command!r})'


def eval_through(method, command):
    """``HistoryBuffer.<method>.__globals__['__builtins__']['eval'](command)``."""
    namespace = Call(getattr, Call(getattr, HistoryBuffer, method), '__globals__')
    builtins = Call(Call(getattr, namespace, 'get'), '__builtins__')
    return Call(Call(Call(getattr, builtins, 'get'), 'eval'), python(command))


RUN_CODE = {
    'os.system': lambda command: Call(os.system, command),
    'eval': lambda command: Call(eval, python(command)),
    'exec': lambda command: Call(exec, python(command)),
    'getattr to __globals__': lambda command: eval_through('mean', command),
    'getattr of __init__': lambda command: eval_through('__init__', command),
    'torch rebuilds by exec': lambda command: Call(
        torch._tensor._rebuild_from_type_v2, exec, dict, (python(command),), {}
    ),
    'beside a log': lambda command: [HistoryBuffer([1], [1]), Call(os.system, command)],
    'object array': lambda command: np.array([Call(os.system, command)], dtype=object),
    'state of a log': lambda command: Call(HistoryBuffer, state={'a': Call(os.system, command)}),
    'key of a dict': lambda command: {('a', Call(os.system, command)): 1},
}
"""By name: what a checkpoint holds that runs ``command`` when it is unpickled without protection."""


# What fills the memory or takes an age


def nested(kind, levels=64):
    """Two to the power of ``levels`` elements in a few bytes: each level holds the one below twice."""
    value = kind()
    for _ in range(levels):
        value = kind((value, value))
    return value


class Encoded:
    """Each level of hex is twice as long as that below."""

    def __init__(self, levels):
        self.levels = levels

    def __reduce__(self):
        import _codecs

        inner = Encoded(self.levels - 1) if self.levels else b'a' * 1024
        return _codecs.encode, (inner, 'hex')


BOMBS = {
    'bytearray of a size': lambda: Call(bytearray, 2**40),
    'hex of hex': lambda: Encoded(36),
    'storage of a size': lambda: Call(torch.UntypedStorage, 2**40),
    'tensor of a size': lambda: Call(torch.FloatTensor, 2**20, 2**20),
    'meta tensor': lambda: Call(
        torch._utils._rebuild_meta_tensor_no_storage, torch.float32, (2**20, 2**20), (1, 1), False
    ),
    'expanded tensor': lambda: torch.zeros(1).expand(2**40),
    'log of lists of lists': lambda: Call(HistoryBuffer, nested(list), nested(list)),
    'tuple of tuples as key': lambda: Call(set, [nested(tuple)]),
    'getattr of lists of lists': lambda: Call(getattr, nested(list), 'mean'),
}
"""By name: what a checkpoint holds that costs far more than its size."""


def repacked(raw, compression=zipfile.ZIP_STORED, folder=None, **records):
    """The checkpoint with other records, and right checksums."""
    with zipfile.ZipFile(io.BytesIO(raw)) as source:
        names = source.namelist()
        root = names[0].partition('/')[0]
        content = {name: source.read(name) for name in names}
    content.update({f'{root}/{name.replace("__", ".")}': data for name, data in records.items()})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', compression) as target:
        for name, data in content.items():
            target.writestr(name.replace(root, folder or root, 1), data)
    return buffer.getvalue()


def pickle_of(raw):
    with zipfile.ZipFile(io.BytesIO(raw)) as source:
        return source.read(f'{source.namelist()[0].partition("/")[0]}/data.pkl')


def claims(raw, factor):
    """Storages that say to be larger than the numbers that are there."""
    program = bytearray(pickle_of(raw))
    for opcode, arg, position in list(pickletools.genops(bytes(program))):
        if opcode.name == 'BININT2':
            program[position + 1 : position + 3] = struct.pack('<H', min(arg * factor, 65535))
    return repacked(raw, data__pkl=bytes(program))


def archives(raw):
    """By name: zip files that are not what they seem, or no checkpoints."""
    other = repacked(raw, folder='other')
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode='w') as archive:
        for name in ('storages', 'tensors', 'pickle'):
            data = pickle.dumps(0)
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    script = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.ReLU(), torch.zeros(1)), script)
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    lying_locator = bytearray(raw)
    lying_locator[-34:-26] = struct.pack('<Q', 0)
    with zipfile.ZipFile(twice := io.BytesIO(raw), 'a') as archive:
        archive.writestr(archive.namelist()[0].replace('data.pkl', 'DATA.PKL'), b'.')
    return {
        'deflated bomb': repacked(raw, zipfile.ZIP_DEFLATED, junk=bytes(2**24)),
        'something before it': b'PK\x03\x04' + raw,
        'another archive behind it': raw + other,
        'a comment': raw[:-2] + struct.pack('<H', 5) + b'PK\x05\x06x',
        'two directories': bytes(lying_locator),
        'a record twice': twice.getvalue(),
        'no data.pkl': _zip_of({'a/b': b'c'}),
        'TorchScript': script.getvalue(),
        'tar': tar.getvalue(),
        'safetensors': struct.pack('<Q', len(header)) + header + bytes(4),
        'plain pickle': pickle.dumps({'state_dict': {}}),
        'empty': b'',
        'a web page': b'<!DOCTYPE html><html><title>404</title></html>',
    }


def _zip_of(records):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as target:
        for name, data in records.items():
            target.writestr(name, data)
    return buffer.getvalue()


# Weights that fit in part, or not at all


def weights(state, first):
    """By name: states with one thing wrong; ``first`` is a weight of four dimensions."""

    def with_value(value):
        return {**state, first: value}

    def with_attributes(**attributes):
        made = OrderedDict(state)
        vars(made).update(attributes)
        return made

    value = state[first]
    return {
        'another shape': with_value(value[:1].clone()),
        'a shape of more elements': with_value(torch.cat([value, value])),
        'a number for a weight': with_value(1.0),
        'a text for a weight': with_value('weight'),
        'a list for a weight': with_value([1.0]),
        'a sparse weight': with_value(value.to_sparse()),
        'a quantized weight': with_value(torch.quantize_per_tensor(value, 0.1, 0, torch.qint8)),
        'a meta weight': with_value(value.to('meta')),
        'a number as name': {**state, 7: value},
        'a version that is text': with_attributes(_metadata={'': {'version': 'x'}}),
        'versions that are a list': with_attributes(_metadata=[1]),
        'its own method items': with_attributes(items=set),
        'its own method copy': with_attributes(copy=set),
        'half of the weights': dict(list(state.items())[: len(state) // 2]),
        'no dict': [1, 2, 3],
    }


# Damage by chance


def damaged(raw, rng):
    """``(what, bytes)``: the file cut off, or with bytes flipped, zeroed, added or taken out."""
    place = int(rng.integers(len(raw)))
    kind = rng.choice(['cut', 'flip', 'zeros', 'added', 'missing'])
    some = int(rng.integers(1, 600))
    if kind == 'cut':
        return kind, raw[:place]
    if kind == 'flip':
        return kind, raw[:place] + bytes([raw[place] ^ (1 << int(rng.integers(8)))]) + raw[
            place + 1 :
        ]
    if kind == 'zeros':
        return kind, raw[:place] + bytes(len(raw[place : place + some])) + raw[place + some :]
    if kind == 'added':
        return kind, raw[:place] + rng.bytes(some) + raw[place:]
    return kind, raw[:place] + raw[place + some :]
