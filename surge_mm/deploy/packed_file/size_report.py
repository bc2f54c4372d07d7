"""Bytes of the parts of a packed file, and of the same network in float32."""

from __future__ import annotations

from torch import nn

from surge_mm.deploy.packed_file.format import PackedFile
from surge_mm.deploy.packing.packed_embedding import PackedEmbedding
from surge_mm.deploy.packing.packed_layers import PackedLayer
from surge_mm.deploy.real_layers.reduced_conv import ReducedConv2d


def sizes_of(file: PackedFile, model: nn.Module, in_float: int) -> dict[str, tuple[int, int]]:
    """Return the bytes of each part of the network in float32, and in its packed file.

    Args:
        file (PackedFile): The file.
        model (nn.Module): The packed model in it.
        in_float (int): ``analysis.complexity.model_size(model).float_bytes`` of the model before it was packed.
    """
    kinds = (PackedLayer, PackedEmbedding)
    packed = {name: m for name, m in model.named_modules() if isinstance(m, kinds)}
    # equal tensors are stored once
    stored = {id(value): (name, value) for name, value in file.tensors.items()}
    reduced = {name for name, m in model.named_modules() if isinstance(m, ReducedConv2d)}
    signs = numbers = real = binary = real_in_float = 0
    for name, value in stored.values():
        owner = name.removesuffix('.signs')
        if owner in packed:
            signs += value.nbytes
            binary += 4 * packed[owner].shape.numel()
        elif name.rpartition('.')[0].removesuffix('.epilogue') in packed:
            numbers += value.nbytes
        else:
            real += value.nbytes
            part, _, kind = name.rpartition('.')
            if part not in reduced:
                real_in_float += value.nbytes
            elif kind == 'weight':
                real_in_float += 4 * value.numel()
    rest = file.size - signs - numbers - real
    return {
        'binary weights': (binary, signs),
        'numbers per filter: scales, norms, activations': (
            in_float - binary - real_in_float,
            numbers,
        ),
        'real layers': (real_in_float, real),
        'config, names, checksum': (0, rest),
        'total': (in_float, file.size),
    }
