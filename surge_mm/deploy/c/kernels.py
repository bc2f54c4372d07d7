"""C code of the convolutions: in plain C, and by vectors of each set of instructions."""

from __future__ import annotations

import re
from collections.abc import Collection
from importlib.resources import files

FILES = {'binary': 'binary', 'int8': 'int8', 'float': 'real'}
"""First part of the names of the files of each kind of convolution."""
CPUS = {'SURGE_X86': ('avx2', 'avx512'), 'SURGE_NEON': ('neon',), 'SURGE_WASM': ('wasm',)}
"""Sets of instructions for each macro of ``cpu.c``."""
BINARY = {'avx2': 'binary_avx2.c', 'avx512': 'binary_avx512.c'}
"""Binary convolution by a set of instructions; by the others, ``binary_bytes.c``."""


def kernels(kinds: Collection[str]) -> str:
    """Return the C code of kinds of convolutions, which follows that of ``layers.h``.

    Args:
        kinds (Collection[str]): Of ``'binary'``, ``'int8'`` and ``'float'``; others are left out.
    """
    kinds = [kind for kind in FILES if kind in kinds]
    parts = [_read('cpu.c'), _read('windows.c'), *(_read(f'{FILES[kind]}.c') for kind in kinds)]
    for macro, sets in CPUS.items():
        parts += [f'#ifdef {macro}', *(_vectors(instructions, kinds) for instructions in sets)]
        parts.append('#endif')
    return '\n'.join([*parts, *(_read(f'{FILES[kind]}_layer.c') for kind in kinds)])


def _vectors(instructions: str, kinds: Collection[str]) -> str:
    """Return the kernels by vectors of one set of instructions."""
    parts = [_read(f'{instructions}.h'), _read('vectors.c')]
    if 'binary' in kinds:
        parts += [_read(name) for name in ('pack.c', 'base.c')]
        parts.append(_read(BINARY.get(instructions, 'binary_bytes.c')))
    if 'int8' in kinds:
        parts += [_read('quantize.c'), _sums(of_bytes=True)]
    if 'float' in kinds:
        parts.append(_sums(of_bytes=False))
    code = '\n'.join(parts)
    macros = re.findall(
        r'^#define (SURGE_\w+)', _read(f'{instructions}.h') + _read('vectors.c'), re.M
    )
    return '\n'.join([code, *(f'#undef {name}' for name in macros)])


def _sums(of_bytes: bool) -> str:
    return f'#define SURGE_OF_BYTES {int(of_bytes)}\n{_read("sums.c")}\n#undef SURGE_OF_BYTES'


def _read(name: str) -> str:
    return (files('surge_mm.deploy.c') / 'sources' / name).read_text()
