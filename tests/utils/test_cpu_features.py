import platform
from pathlib import Path

import pytest
import torch

from surge_mm.utils.cpu_features import has_bfloat16_units, has_byte_units

CPUINFO = Path('/proc/cpuinfo')


@pytest.mark.skipif(
    platform.machine() != 'x86_64' or not CPUINFO.is_file(), reason='needs Linux on x86-64'
)
def test_bfloat16_units_are_those_that_linux_reports():
    flags = CPUINFO.read_text().partition('flags')[2].partition('\n')[0].split()
    assert has_bfloat16_units() == bool({'amx_bf16', 'avx512_bf16'} & set(flags))


@pytest.mark.parametrize('amx', [False, True])
@pytest.mark.parametrize('avx512', [False, True])
def test_bfloat16_units_are_found_by_pytorch_before_2_11(amx, avx512, monkeypatch):
    monkeypatch.delattr(torch.cpu, 'get_capabilities', raising=False)
    monkeypatch.setattr(torch.cpu, '_is_amx_tile_supported', lambda: amx)
    monkeypatch.setattr(torch.cpu, '_is_avx512_bf16_supported', lambda: avx512)
    assert has_bfloat16_units() == (amx or avx512)


@pytest.mark.skipif(
    platform.machine() != 'x86_64' or not CPUINFO.is_file(), reason='needs Linux on x86-64'
)
def test_byte_units_are_those_that_linux_reports():
    flags = CPUINFO.read_text().partition('flags')[2].partition('\n')[0].split()
    assert has_byte_units() == bool({'amx_int8', 'avx512_vnni', 'avx_vnni'} & set(flags))
