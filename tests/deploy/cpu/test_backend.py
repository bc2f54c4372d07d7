import builtins
import ctypes
import platform
import sys

import pytest
import torch
from helpers.forkserver import FORKSERVER
from helpers.other_cpus import run_packed

from surge_mm import SurgeConv2d
from surge_mm.deploy import PackedConv2d, instruction_set
from surge_mm.deploy.cpu import backend


@pytest.fixture
def messages(monkeypatch):
    """Return the messages to the user after the engine is chosen again."""
    said = []
    monkeypatch.setattr(backend, 'log', said.append)
    backend.kernels.cache_clear()
    yield said
    backend.kernels.cache_clear()


@torch.no_grad()
def test_without_numba_the_output_is_the_same_and_one_message_is_logged(messages, monkeypatch):
    real_import = builtins.__import__

    def without_numba(name, *args, **kwargs):
        if name.startswith(('numba', 'llvmlite')):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    for name in [
        n
        for n in sys.modules
        if n.startswith('surge_mm.deploy.') and ('.codegen' in n or n.endswith('kernels'))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(sys.modules['surge_mm.deploy.cpu'], 'kernels', raising=False)
    monkeypatch.setattr(builtins, '__import__', without_numba)
    layer, x = SurgeConv2d(20, 5, 3, padding=1).eval(), torch.randn(1, 20, 6, 6)
    packed = PackedConv2d(layer)
    assert torch.equal(packed(x), layer(x))
    assert torch.equal(packed(x), layer(x))
    assert instruction_set() == backend.PLAIN
    assert len(messages) == 1
    assert 'pip install "surge_mm[deploy]"' in messages[0]


def test_the_instruction_set_is_known():
    assert instruction_set() in {
        'AVX-512 VPOPCNTDQ', 'AVX-512', 'AVX2', 'SSE4.2', 'NEON', 'no vectors'
    }  # fmt: skip


SMALLER = '+sse,+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+fma,+cx16,+64bit'


@pytest.mark.skipif(platform.machine() not in ('x86_64', 'AMD64'), reason='names of x86')
@pytest.mark.parametrize(
    ('settings', 'name'),
    [
        ({'NUMBA_CPU_NAME': 'x86-64', 'NUMBA_CPU_FEATURES': SMALLER}, 'AVX2'),
        (
            {'NUMBA_CPU_NAME': 'x86-64', 'NUMBA_CPU_FEATURES': '+sse,+sse2,+cx16,+64bit'},
            'no vectors',
        ),
        # counts in bytes, which no other CPU has; LLVM ignores the name for x86
        (
            {'NUMBA_CPU_NAME': 'x86-64', 'NUMBA_CPU_FEATURES': '+sse,+sse2,+cx16,+64bit,+neon'},
            'NEON',
        ),
        ({'NUMBA_ENABLE_AVX': '0'}, 'SSE4.2'),
    ],
)
def test_a_cpu_without_wide_vectors_gives_the_same_output_and_one_message(settings, name, tmp_path):
    process = FORKSERVER.Process(target=run_packed, args=(settings, tmp_path))
    process.start()
    process.join()
    messages = (tmp_path / 'messages').read_text()
    assert process.exitcode == 0, messages
    assert (tmp_path / 'instructions').read_text() == name
    assert messages.count('right but slower') == 1


@pytest.fixture
def overwritten_memory():
    """Let GNU's malloc write over what is given back, as the variable MALLOC_PERTURB_ does."""
    if not (set_option := getattr(ctypes.CDLL(None), 'mallopt', None)):
        pytest.skip("needs GNU's malloc")
    perturb = -6
    assert set_option(perturb, 165) == 1
    yield
    set_option(perturb, 0)


@torch.no_grad()
@pytest.mark.parametrize('stride', [1, 2])
def test_no_freed_memory_is_read(stride, overwritten_memory):
    layer = SurgeConv2d(512, 16, 3, stride, padding=1).eval()
    x = torch.randn(1, 512, 29, 28)
    assert torch.equal(PackedConv2d(layer)(x), layer(x))
