"""C code compiled to a shared library for a test."""

import ctypes
import shutil
import subprocess
from importlib.resources import files

import numpy as np

COMPILER = shutil.which('cc')
FLAGS = [
    '-std=c99',
    '-Wall',
    '-Wextra',
    '-Werror',
    '-Wno-unused-function',
    '-O1',  # half the time of -O2, and the same bits
    '-shared',
    '-fPIC',
]
SOURCES = files('surge_mm.deploy.c') / 'sources'


def compiled(folder, *parts, libraries=(), flags=()):
    """Return the library of C code.

    Args:
        folder (Path): where it is compiled.
        *parts (str): texts of C, or names of files in ``sources``.
        libraries (Sequence[str]): libraries whose functions they call.
        flags (Sequence[str]): options of the compiler beside :data:`FLAGS`.
    """
    texts = [
        (SOURCES / part).read_text() if part.endswith(('.c', '.h')) else part for part in parts
    ]
    (folder / 'code.c').write_text('\n'.join(texts))
    out = folder / 'code.so'
    code = str(folder / 'code.c')
    command = [COMPILER, *FLAGS, *flags, code, *libraries, '-o', str(out), '-lm']
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(out))


def pointer(array):
    """Return the address of a contiguous array, or NULL for None."""
    if array is None:
        return None
    assert array.flags.c_contiguous
    return array.ctypes.data_as(ctypes.c_void_p)


def guarded(n_bytes):
    """Return a buffer of bytes between two guards, and a function that checks that these are untouched."""
    whole = np.full(n_bytes + 128, 0xA5, np.uint8)

    def check():
        assert (whole[:64] == 0xA5).all() and (whole[64 + n_bytes :] == 0xA5).all()

    return whole[64 : 64 + n_bytes], check
