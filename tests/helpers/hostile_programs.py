"""Random pickles: generated, or made from a real one by mutations."""

import pickletools
import struct

NAMES = (
    *('collections OrderedDict', 'collections Counter', 'builtins set', 'builtins bytearray'),
    *('builtins complex', 'builtins getattr', '_codecs encode', 'torch Size', 'torch device'),
    *('torch Tensor', 'torch FloatTensor', 'torch FloatStorage', 'torch.storage UntypedStorage'),
    *('torch float32', 'torch float64', 'torch.nn.parameter Parameter'),
    *('torch.serialization _get_layout', 'torch._tensor _rebuild_from_type_v2'),
    *(f'torch._utils _rebuild_{name}' for name in ('tensor', 'tensor_v2', 'tensor_v3')),
    *(f'torch._utils _rebuild_{name}' for name in ('parameter', 'parameter_with_state')),
    *(f'torch._utils _rebuild_{name}' for name in ('qtensor', 'sparse_tensor', 'nested_tensor')),
    *(f'torch._utils _rebuild_{name}' for name in ('wrapper_subclass', 'meta_tensor_no_storage')),
    *(f'torch._utils _rebuild_device_tensor_from_{name}' for name in ('numpy', 'cpu_tensor')),
    *('numpy ndarray', 'numpy dtype', 'numpy._core.multiarray _reconstruct'),
    *('numpy._core.multiarray scalar', 'mmengine.logging.history_buffer HistoryBuffer'),
    *('numpy.dtypes Float64DType', 'surge_mm.checkpoint.safe_globals _Log'),
    *('surge_mm.checkpoint.safe_globals _Array', 'surge_mm.checkpoint.safe_globals _DType'),
    *('os system', 'posix system', 'builtins eval', 'builtins exec', '__builtin__ eval'),
    *('subprocess Popen', 'importlib import_module', 'runpy _run_code', 'shutil rmtree'),
)
"""Names of PyTorch's safe globals and of ours, and some that are not allowed."""

TEXTS = (
    *('latin1', 'hex', 'zlib', 'mean', 'max', '__globals__', '__init__', '__class__', 'f8', 'O'),
    *('U0', 'V8', 'f8,O', 'cpu', 'cuda', 'meta', 'torch.strided', 'a', '0', 'storage', 'version'),
    *('statistics_methods', '_log_history', '_count_history', 'max_length', '_metadata'),
    *('__setstate__', '__reduce__', 'touch /tmp/x', 'data', 'items', 'grad', '_backward_hooks'),
)


def random_program(rng, depth=6):
    """Return a pickle of protocol 2 with random values and calls of :data:`NAMES`."""
    return b'\x80\x02}X\x01\0\0\0a' + b'q\0' + _value(rng, depth) + b's.'


def _value(rng, depth):
    kinds = ['int', 'text', 'name', 'none', 'memo']
    if depth:
        kinds += [
            'call',
            'call',
            'call',
            'call',
            'new',
            'build',
            'tuple',
            'list',
            'dict',
            'storage',
        ]
    kind = rng.choice(kinds)

    def values(most):
        return b''.join(_value(rng, depth - 1) for _ in range(int(rng.integers(most + 1))))

    def name():
        return b'c' + NAMES[int(rng.integers(len(NAMES)))].replace(' ', '\n').encode() + b'\n'

    if kind == 'int':
        return b'J' + struct.pack('<i', int(rng.choice([-1, 0, 1, 2, 8, 63, 4096])))
    if kind == 'text':
        text = TEXTS[int(rng.integers(len(TEXTS)))].encode()
        return b'X' + struct.pack('<I', len(text)) + text
    if kind == 'name':
        return name()
    if kind == 'memo':
        return b'h\0'
    if kind == 'call':
        return name() + b'(' + values(6) + b'tR'
    if kind == 'new':
        return name() + b'(' + values(3) + b't\x81'
    if kind == 'build':
        return _value(rng, depth - 1) + _value(rng, depth - 1) + b'b'
    if kind == 'tuple':
        return b'(' + values(4) + b't'
    if kind == 'list':
        return b'](' + values(4) + b'e'
    if kind == 'dict':
        return b'}' + _value(rng, 0) + _value(rng, depth - 1) + b's'
    if kind == 'storage':
        return b'(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x01tQ'
    return b'N'


def mutated_program(program, rng):
    """Return a pickle with steps removed, doubled or exchanged, or with other names and numbers."""
    steps = [position for _, _, position in pickletools.genops(program)] + [len(program)]
    steps = [program[a:b] for a, b in zip(steps, steps[1:], strict=False)]
    for _ in range(int(rng.integers(1, 4))):
        i, j = (int(rng.integers(1, len(steps))) for _ in range(2))
        change = rng.choice(['out', 'double', 'exchange', 'name', 'number', 'value'])
        if change == 'out':
            del steps[i]
        elif change == 'double':
            steps.insert(j, steps[i])
        elif change == 'exchange':
            steps[i], steps[j] = steps[j], steps[i]
        elif change == 'value':
            steps[i] = _value(rng, 2)
        else:
            first = (b'c',) if change == 'name' else (b'K', b'M', b'J')
            same = [k for k, step in enumerate(steps) if step[:1] in first]
            k = same[int(rng.integers(len(same)))]
            if change == 'name':
                steps[k] = (
                    b'c' + NAMES[int(rng.integers(len(NAMES)))].replace(' ', '\n').encode() + b'\n'
                )
            else:
                steps[k] = b'J' + struct.pack('<i', int(rng.choice([-1, 0, 1, 5, 255, 2**31 - 1])))
    return b''.join(steps)
