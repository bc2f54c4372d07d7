"""Features of the CPU."""

from __future__ import annotations

from functools import cache

import torch


def has_bfloat16_units() -> bool:
    """Return whether the CPU multiplies in bfloat16 by instructions of its own: AMX or AVX512_BF16."""
    if hasattr(torch.cpu, 'get_capabilities'):  # PyTorch 2.11
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get('amx_bf16') or capabilities.get('avx512_bf16'))
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


@cache
def has_byte_units() -> bool:
    """Return whether the CPU multiplies bytes by instructions of its own: AMX, AVX512_VNNI or AVX_VNNI."""
    if hasattr(torch.cpu, 'get_capabilities'):  # PyTorch 2.11
        capabilities = torch.cpu.get_capabilities()
        return any(map(capabilities.get, ('amx_int8', 'avx512_vnni', 'avx_vnni')))
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_vnni_supported()
