"""Report of an export: tables of the layers and sizes, and what packing changes."""

from __future__ import annotations

from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.runner import Runner
from rich.progress import track
from rich.table import Table
from torch import nn

from surge_mm.analysis.plots import METRICS
from surge_mm.analysis.sensitivity import evaluate
from surge_mm.deploy import Packing
from surge_mm.deploy.real_layers.convert import FLOAT32
from surge_mm.preflight.datasets import check_datasets
from surge_mm.utils.errors import UsageError

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


def change_of_metric(cfg: Config, before: nn.Module, after: nn.Module, real: str) -> str:
    """Evaluate two packed models on the validation set, and return a sentence on the change.

    Args:
        cfg (Config): The config.
        before (nn.Module): The packed model in float32.
        after (nn.Module): The packed model in ``real``.
        real (str): Dtype of the real-valued convolutions of ``after``.
    """
    if not cfg.get('val_dataloader') or not cfg.get('val_evaluator'):
        return 'metric: not measured, the config has no val_dataloader and val_evaluator'
    try:
        check_datasets(cfg, ('val',))
    except UsageError as error:
        return f'metric: not measured, the validation set is not there ({error!s:.200})'
    loader = Runner.build_dataloader(cfg.val_dataloader, seed=0)
    evaluator = Evaluator(cfg.val_evaluator)
    evaluator.dataset_meta = loader.dataset.metainfo
    models = track((before, after), 'evaluation')
    found = [evaluate(model, loader, evaluator) for model in models]
    names = [name for name in METRICS if name in found[0]] or list(found[0])
    lines = [
        f'{name}: {found[0][name]:.4f} in float32, {found[1][name]:.4f} in {real} '
        f'({found[1][name] - found[0][name]:+.4f}), on the {len(loader.dataset)} images of the validation set'
        for name in names
    ]
    return '\n'.join(lines)


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
