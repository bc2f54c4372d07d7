"""Compile exported C files by a compiler of the system, or by that of the package ``ziglang``.

``zig cc`` is Clang with the C libraries of many systems, so it compiles for other systems and CPUs too.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from surge_mm.utils.atomic_write import write_atomically
from surge_mm.utils.errors import UsageError

SYSTEM = 'cc', 'gcc', 'clang'
OPTIMIZE = '-std=c99', '-O2'
SHARED = '-shared', '-fPIC'
THREADS = '-DSURGE_THREADS', '-pthread'
WASM = 'wasm32-wasi'
VECTORS = '-msimd128'
"""Lets Clang use the vectors of WebAssembly."""
WASM_FLAGS = (
    '-mexec-model=reactor',
    '-fvisibility=default',
    '-Wl,--export-dynamic',
    '-Wl,--strip-all',
)
INSTALL = 'pip install ziglang'


def compile_shared(
    source: str | os.PathLike,
    out: str | os.PathLike,
    target: str | None = None,
    threads: bool = False,
) -> None:
    """Compile a C file to a shared library.

    Args:
        source (str | os.PathLike): The C file.
        out (str | os.PathLike): The library to write.
        target (str, optional): System and CPU on which it runs, such as ``'aarch64-linux-musl'``. Defaults to None,
            for those of this process.
        threads (bool): Whether it can use several threads. Defaults to False.

    Raises:
        UsageError: if there is no compiler, or it fails.
        WriteError: if the library cannot be written.
    """
    _compile([source], out, (*SHARED, *(THREADS if threads else ())), target)


def compile_program(
    sources: Sequence[str | os.PathLike],
    out: str | os.PathLike,
    target: str | None = None,
    threads: bool = False,
) -> None:
    """Compile C files to a program.

    Args:
        sources (Sequence[str | os.PathLike]): The C files.
        out (str | os.PathLike): The program to write.
        target (str, optional): See :func:`compile_shared`. Defaults to None.
        threads (bool): See :func:`compile_shared`. Defaults to False.

    Raises:
        UsageError: if there is no compiler, or it fails.
        WriteError: if the program cannot be written.
    """
    _compile(sources, out, THREADS if threads else (), target)
    os.chmod(out, 0o755)


def compile_wasm(source: str | os.PathLike, out: str | os.PathLike) -> None:
    """Compile a C file to a WebAssembly module without imports, which exports its functions and its memory.

    Args:
        source (str | os.PathLike): The C file.
        out (str | os.PathLike): The module to write, ``*.wasm``.

    Raises:
        UsageError: if the package ``ziglang`` is missing, or compiling fails.
        WriteError: if the module cannot be written.
    """
    _compile([source], out, WASM_FLAGS, WASM)


def find_compiler(target: str | None = None) -> list[str]:
    """Return the command of a C compiler.

    Without a target it is that of the environment variable CC, ``cc``, ``gcc``, ``clang``, or ``zig cc``. With a target
    it is ``TARGET-gcc`` or ``zig cc``, with the target among its arguments.

    Args:
        target (str, optional): See :func:`compile_shared`. Defaults to None.

    Raises:
        UsageError: if there is none.
    """
    if target is None and os.environ.get('CC', '').strip():
        command = shlex.split(os.environ['CC'])
        if shutil.which(command[0]) is None:
            raise UsageError(
                f'the compiler CC={os.environ["CC"]!r} is not found: set CC to a C compiler, or unset it'
            )
        return command
    for name in SYSTEM if target is None else (f'{target}-gcc',):
        if path := shutil.which(name):
            return [path]
    if importlib.util.find_spec('ziglang') is None:
        searched = ', '.join(SYSTEM) if target is None else f'{target}-gcc'
        raise UsageError(
            f'no C compiler is found ({searched}). Install one, such as that of: {INSTALL}'
        )
    # without a target, zig compiles for the CPU of this machine alone
    return [sys.executable, '-m', 'ziglang', 'cc', '-target', target or host()]


def host() -> str:
    """Return the target of this process in the names of zig, such as ``'x86_64-linux-gnu'``."""
    cpu = {'amd64': 'x86_64', 'arm64': 'aarch64', 'armv7l': 'arm', 'armv6l': 'arm', 'i686': 'x86'}
    machine = platform.machine().lower()
    machine = cpu.get(machine, machine)
    if sys.platform == 'darwin':
        return f'{machine}-macos'
    if sys.platform == 'win32':
        return f'{machine}-windows-gnu'
    libc = 'gnu' if platform.libc_ver()[0] == 'glibc' else 'musl'
    return f'{machine}-linux-{libc}{"eabihf" if machine == "arm" else ""}'


def _compile(
    sources: Sequence[str | os.PathLike],
    out: str | os.PathLike,
    flags: Sequence[str],
    target: str | None,
) -> None:
    names = [os.fspath(source) for source in sources]
    by_hand = shlex.join(['cc', *OPTIMIZE, *flags, *names, '-o', os.fspath(out), '-lm'])
    written = f'{names[0]!r} is written, but not compiled'
    try:
        compiler = find_compiler(target)
    except UsageError as error:
        hint = f', or compile it yourself: {by_hand}' if target is None else ''
        raise UsageError(f'{written}: {error}{hint}') from error
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / Path(out).name
        vectors = [VECTORS] if target and target.startswith('wasm') else []
        command = [*compiler, *OPTIMIZE, *vectors, *flags, *names, '-o', str(made), '-lm']
        done = subprocess.run(command, capture_output=True, text=True, errors='replace')
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if 'error:' in line]
            first = (lines or done.stderr.splitlines() or [f'exit status {done.returncode}'])[0]
            raise UsageError(f'{written}: {first}. The command was: {shlex.join(command)}')
        write_atomically(out, made.read_bytes())
