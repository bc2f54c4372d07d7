"""Tables of the layers and sizes of a packed model, for a terminal."""

from __future__ import annotations

from rich.table import Table

from surge_mm.deploy.packing.convert import Packing
from surge_mm.deploy.real_layers.convert import FLOAT32

TOLERANCE = 1e-4
"""Largest difference by rounding, relative to the largest number of a tensor."""


def describe(difference: float, real: str = FLOAT32) -> str:
    """Return a sentence on the largest difference to the model of the checkpoint, or to the model before its file.

    Args:
        difference (float): Largest difference relative to the largest number of a tensor.
        real (str): Dtype of the real-valued convolutions. Another one than float32 changes the outputs, so the file is
            compared with the model before. Defaults to 'float32'.
    """
    if real != FLOAT32:
        if difference:
            return f'warning: the loaded file differs from the model by {difference:.1e} of the largest number'
        return 'the loaded file gives the outputs of the model to the bit'
    if difference == 0:
        return 'its outputs equal those of the checkpoint to the bit'
    text = f'its outputs differ from those of the checkpoint by up to {difference:.1e} of the largest number'
    if difference <= TOLERANCE:
        return text
    return (
        f'warning: {text}. A sign of a number near 0 may differ by rounding; evaluate the file by tools/test.py '
        'before you use it'
    )


def table_of_layers(packing: Packing, shapes: dict[str, tuple[int, ...]]) -> Table:
    """Return a table of the binary layers.

    Args:
        packing (Packing): What was packed.
        shapes (dict[str, tuple[int, ...]]): Shape of the weight of each binary layer.
    """
    table = Table(title=f'{len(packing.packed)} of {len(shapes)} binary layers are packed')
    for column in ('layer', 'weight', 'is', 'reason'):
        table.add_column(column, overflow='fold')
    for name, shape in shapes.items():
        reason = packing.kept.get(name, '')
        table.add_row(name, 'x'.join(map(str, shape)), 'kept' if reason else 'packed', reason)
    return table


def table_of_unfused(packing: Packing) -> Table:
    """Return a table of the norms and activations that are not part of a packed layer.

    Args:
        packing (Packing): What was packed.
    """
    count = len(packing.unfused)
    table = Table(title=f'{count} norms and activations behind binary layers run in PyTorch')
    for column in ('module', 'reason'):
        table.add_column(column, overflow='fold')
    for row in packing.unfused.items():
        table.add_row(*row)
    return table


def table_of_real(packing: Packing, real: str) -> Table:
    """Return a table of the real-valued layers.

    Args:
        packing (Packing): What was packed.
        real (str): Dtype that was asked for.
    """
    table = Table(title=f'{len(packing.real)} real-valued convolutions are in {real}')
    for column in ('layer', 'is', 'reason'):
        table.add_column(column, overflow='fold')
    for name in packing.real:
        table.add_row(name, real, '')
    for name, reason in packing.kept_float.items():
        table.add_row(name, 'float32', reason)
    return table


def table_of_sizes(sizes: dict[str, tuple[int, int]]) -> Table:
    """Return a table of the sizes before and after packing."""
    table = Table(title='size in bytes')
    table.add_column('')
    for column in ('float32', 'packed', 'times less'):
        table.add_column(column, justify='right')
    for name, (before, after) in sizes.items():
        times = f'{before / after:.1f}' if before and after else ''
        table.add_row(name, f'{before:,}' if before else '', f'{after:,}', times)
    return table
