"""What takes how many bytes in a packed file, beside the same network in float32."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from surge_mm.deploy.packed_file.format import PackedFile
from surge_mm.deploy.packed_layers import PackedLayer


@dataclass(frozen=True)
class Sizes:
    """In bytes.

    Attributes:
        signs: The weights of packed layers, one bit each.
        numbers: What packed layers need beside: scales and folded batch norms and activations, 32 bits a number.
        real: All other layers.
        rest: The config, the names of tensors, the checksum.
        binary_float: The weights of packed layers in float32.
        real_float: What all that is not such a weight takes in the network before it was packed.
    """

    signs: int
    numbers: int
    real: int
    rest: int
    binary_float: int
    real_float: int

    @property
    def total(self) -> int:
        """Of the file."""
        return self.signs + self.numbers + self.real + self.rest

    @property
    def float(self) -> int:
        """Of the network before it was packed."""
        return self.binary_float + self.real_float


def sizes_of(file: PackedFile, model: nn.Module, in_float: int) -> Sizes:
    """The sizes of a packed file.

    Args:
        file (PackedFile): The file.
        model (nn.Module): The packed model in it.
        in_float (int): ``analysis.complexity.model_size(model).float_bytes`` of the model before it was packed.
    """
    packed = {name: m for name, m in model.named_modules() if isinstance(m, PackedLayer)}
    each = {
        id(value): (name, value) for name, value in file.tensors.items()
    }  # copies are stored once
    signs = numbers = real = binary = 0
    for name, value in each.values():
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
