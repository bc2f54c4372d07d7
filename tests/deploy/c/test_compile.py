"""Compilers of exported C files."""

import ctypes
import importlib.util
import shutil
import subprocess
import sys

import pytest

from surge_mm.deploy.c.compile import compile_program, compile_shared, compile_wasm, host
from surge_mm.utils.errors import UsageError

CODE = """
#include <math.h>
int twice(int x) { return 2 * (int)sqrt((double)x * x); }
"""
MAIN = """
#include <stdio.h>
int twice(int x);
int main(void) { return printf("%d", twice(21)) != 2; }
"""
has_compiler = pytest.mark.skipif(shutil.which('cc') is None, reason='no C compiler')


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.delenv('CC', raising=False)
    path = tmp_path / 'code.c'
    path.write_text(CODE)
    return path


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setenv('PATH', '')
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)


def runs(source, folder, target=None):
    library, program, main = folder / 'code.so', folder / 'program', folder / 'main.c'
    compile_shared(source, library, target)
    assert ctypes.CDLL(str(library)).twice(21) == 42
    main.write_text(MAIN)
    compile_program([source, main], program, target)
    assert subprocess.run([str(program)], capture_output=True, text=True).stdout == '42'


@has_compiler
def test_system_compiler_makes_a_library_and_a_program_that_run(source, tmp_path):
    runs(source, tmp_path)


@has_compiler
def test_cc_names_the_compiler(source, tmp_path, monkeypatch):
    monkeypatch.setenv('CC', f'{shutil.which("cc")} -Dtwice=thrice')
    compile_shared(source, tmp_path / 'code.so')
    assert ctypes.CDLL(str(tmp_path / 'code.so')).thrice(21) == 42
    monkeypatch.setenv('CC', 'no-such-compiler')
    with pytest.raises(UsageError, match="CC='no-such-compiler' is not found"):
        compile_shared(source, tmp_path / 'other.so')


def test_without_a_compiler_the_message_tells_how_to_compile(source, tmp_path, no_compiler):
    out = tmp_path / 'code.so'
    with pytest.raises(UsageError) as raised:
        compile_shared(source, out)
    message = str(raised.value)
    assert f"'{source}' is written, but not compiled" in message
    assert f'cc -std=c99 -O2 -shared -fPIC {source} -o {out} -lm' in message
    assert 'pip install ziglang' in message
    with pytest.raises(UsageError, match='aarch64-linux-musl-gcc'):
        compile_shared(source, out, 'aarch64-linux-musl')
    assert not out.exists()


@has_compiler
def test_an_error_of_the_compiler_is_told_and_nothing_is_written(source, tmp_path):
    source.write_text('int twice(int x) { return 2 * y; }')
    out = tmp_path / 'code.so'
    with pytest.raises(UsageError, match='error: .*y.* undeclared'):
        compile_shared(source, out)
    assert not out.exists()


def test_zig_compiles_for_this_and_other_systems(source, tmp_path, monkeypatch):
    pytest.importorskip('ziglang')
    runs(source, tmp_path, host())
    monkeypatch.setenv('PATH', '')  # without a compiler of the system
    runs(source, tmp_path)
    compile_shared(source, tmp_path / 'arm.so', 'aarch64-linux-musl')
    machine = (tmp_path / 'arm.so').read_bytes()[18:20]
    assert machine == (183).to_bytes(2, 'little')  # EM_AARCH64
    compile_wasm(source, tmp_path / 'code.wasm')
    module = (tmp_path / 'code.wasm').read_bytes()
    assert module[:4] == b'\0asm' and b'twice' in module
    if sys.platform == 'linux':
        assert host().partition('-')[2].startswith('linux')
