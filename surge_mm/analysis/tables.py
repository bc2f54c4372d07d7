"""Tables of the tools, for terminals and files."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from surge_mm.analysis.complexity import ModelComplexity


def wide_console() -> Console:
    """Return a console with the width of the terminal, or with 140 columns for a file or a pipe."""
    console = Console()
    return console if console.is_terminal else Console(width=140)


def layer_table(complexity: ModelComplexity, title: str) -> Table:
    """Return a table of the layers of a model: binary or not, by which rule, their size and their operations.

    Args:
        complexity (ModelComplexity): Operations and size of the model.
        title (str): Title of the table.
    """
    table = Table(title=title)
    for column in ('layer', 'class', 'weight', 'precision', 'rule'):
        table.add_column(column, overflow='fold')
    for column in ('kbit', 'MFLOPs', 'MBOPs'):
        table.add_column(column, justify='right')
    for layer in complexity.layers:
        table.add_row(
            layer.name,
            layer.type,
            'x'.join(map(str, layer.shape)),
            '1 bit' if layer.binary else '32 bit',
            f'{layer.rule}, shortcut' if layer.shortcut else layer.rule,
            f'{layer.bits / 1e3:,.1f}',
            f'{layer.flops / 1e6:,.2f}' if layer.flops else '',
            f'{layer.bops / 1e6:,.2f}' if layer.bops else '',
        )
    return table
