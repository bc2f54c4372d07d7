"""Bytes of the parts of a packed file, and of the same network in float32."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from surge_mm.deploy.packed_file.format import PackedFile
from surge_mm.deploy.packed_layers import PackedLayer


@dataclass(frozen=True)
class Sizes:
    """Sizes in bytes.

    Attributes:
        signs (int): Weights of packed layers, one bit each.
        numbers (int): Scales, folded batch norms and activations of packed layers, 32 bits a number.
        real (int): All other layers.
        rest (int): Config, names of tensors, checksum.
        binary_float (int): Weights of packed layers in float32.
        real_float (int): All other numbers of the network before it was packed.
    """

    signs: int
    numbers: int
    real: int
    rest: int
    binary_float: int
    real_float: int

    @property
    def total(self) -> int:
        """Size of the file."""
        return self.signs + self.numbers + self.real + self.rest

    @property
    def float(self) -> int:
        """Size of the network before it was packed."""
        return self.binary_float + self.real_float


def sizes_of(file: PackedFile, model: nn.Module, in_float: int) -> Sizes:
    """Return the sizes of a packed file.

    Args:
        file (PackedFile): The file.
        model (nn.Module): The packed model in it.
        in_float (int): ``analysis.complexity.model_size(model).float_bytes`` of the model before it was packed.
    """
    packed = {name: m for name, m in model.named_modules() if isinstance(m, PackedLayer)}
    # equal tensors are stored once
    stored = {id(value): (name, value) for name, value in file.tensors.items()}
    signs = numbers = real = binary = 0
    for name, value in stored.values():
        owner = name.removesuffix('.signs')
        if owner in packed:
            signs += value.nbytes
            binary += 4 * packed[owner].shape.numel()
        elif name.rpartition('.')[0].removesuffix('.epilogue') in packed:
            numbers += value.nbytes
        else:
            real += value.nbytes
    rest = file.size - signs - numbers - real
    return Sizes(signs, numbers, real, rest, binary, in_float - binary)
