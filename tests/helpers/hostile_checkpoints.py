"""Checkpoints that run code, are damaged or do not match, and means to detect what loading them does.

Most are made from a real checkpoint of a run, with one thing changed.
"""

import io
import os
import pickle
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
"""Events of ``sys.addaudithook`` that loading a checkpoint must not cause."""

_listening: list[list[str]] = []


def _listen(event, arguments):
    if _listening and event in HARM and not _is_import(event):
        _listening[-1].append(event)


def _is_import(event):
    """Return whether the event comes from the import of a module, such as those that torch imports lazily."""
    if event not in ('exec', 'compile'):
        return False
    frame = sys._getframe(2)
    while frame and not frame.f_code.co_filename.startswith('<frozen importlib'):
        frame = frame.f_back
    return frame is not None


sys.addaudithook(_listen)


@contextmanager
def canary():
    """Collect the events of :data:`HARM` that occur in the block; yields the list."""
    heard: list[str] = []
    _listening.append(heard)
    try:
        yield heard
    finally:
        _listening.pop()


@contextmanager
def little_memory(more=2**30):
    """Limit the growth of the memory of this process to ``more`` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


class Call:
    """An object whose pickle is a call, optionally with a state that the result is given."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.reduced

    def __call__(self):
        raise AssertionError('pickle requires a callable, but does not call it')


def run_state(model):
    """Return the checkpoint of a run, as MMEngine saves it."""
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


# Pickles that run code without weights_only


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
"""By name: a function that returns an object which runs a command when it is unpickled without protection."""


def repacked(raw, compression=zipfile.ZIP_STORED, **records):
    """Return the checkpoint with records replaced or added, and valid checksums."""
    with zipfile.ZipFile(io.BytesIO(raw)) as source:
        names = source.namelist()
        root = names[0].partition('/')[0]
        content = {name: source.read(name) for name in names}
    content.update({f'{root}/{name.replace("__", ".")}': data for name, data in records.items()})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', compression) as target:
        for name, data in content.items():
            target.writestr(name, data)
    return buffer.getvalue()


def pickle_of(raw):
    with zipfile.ZipFile(io.BytesIO(raw)) as source:
        return source.read(f'{source.namelist()[0].partition("/")[0]}/data.pkl')


def foreign_files(raw):
    """By name: files that are not checkpoints, or not whole ones."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode='w') as archive:
        for name in ('storages', 'tensors', 'pickle'):
            data = pickle.dumps(0)
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    script = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.ReLU(), torch.zeros(1)), script)
    other = io.BytesIO()
    with zipfile.ZipFile(other, 'w') as archive:
        archive.writestr('a/b', b'c')
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    return {
        'zip bomb': repacked(raw, zipfile.ZIP_DEFLATED, junk=bytes(2**24)),
        'zip archive without data.pkl': other.getvalue(),
        'TorchScript': script.getvalue(),
        'tar': tar.getvalue(),
        'safetensors': struct.pack('<Q', len(header)) + header + bytes(4),
        'plain pickle': pickle.dumps({'state_dict': {}}),
        'empty file': b'',
        'web page': b'<!DOCTYPE html><html><title>404</title></html>',
        'truncated': raw[:-5000],
    }


# State dicts that do not match


def mismatched_weights(state, first):
    """By name: state dicts with one thing wrong; ``first`` is the name of a weight of four dimensions."""
    value = state[first]
    values = {
        'another shape': value[:1].clone(),
        'more elements': torch.cat([value, value]),
        'a number': 1.0,
        'a list': [1.0],
        'a sparse tensor': value.to_sparse(),
        'a quantized tensor': torch.quantize_per_tensor(value, 0.1, 0, torch.qint8),
        'a meta tensor': value.to('meta'),
    }
    return {
        **{name: {**state, first: wrong} for name, wrong in values.items()},
        'a number as a name': {**state, 7: value},
        'half of the weights': dict(list(state.items())[: len(state) // 2]),
        'a list of weights': [1, 2, 3],
    }


# Random damage


def damaged(raw, rng):
    """Return ``(kind, bytes)``: the file truncated, or with bytes flipped, zeroed, added or removed."""
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
