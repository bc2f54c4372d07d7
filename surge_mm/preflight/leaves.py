"""The datasets of a dataloader, inside wrappers, built without their content."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.config import ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from surge_mm.utils.errors import DatasetError
from surge_mm.utils.registry_errors import explain, suggest_registered
from surge_mm.utils.suggestions import argument_names, did_you_mean


def find_leaves(key: str, dataset: Any) -> Iterator[tuple[str, ConfigDict]]:
    """Yield the datasets inside wrappers such as ``RepeatDataset`` and ``ConcatDataset``.

    Args:
        key (str): config key of ``dataset``.
        dataset (Any): config of a dataset or a wrapper.

    Yields:
        tuple: config key and config of a dataset.
    """
    if not isinstance(dataset, dict):
        return
    if 'datasets' in dataset:
        for number, inner in enumerate(dataset['datasets']):
            yield from find_leaves(f'{key}.datasets.{number}', inner)
    elif 'dataset' in dataset:
        yield from find_leaves(f'{key}.dataset', dataset['dataset'])
    else:
        yield key, dataset


def build_lazily(key: str, config: ConfigDict, scope: str | None) -> BaseDataset | None:
    """Build a dataset without pipeline and content. The host resolves its paths and classes.

    Args:
        key (str): its config key.
        config (ConfigDict): its config.
        scope (str, optional): ``default_scope`` of the config.

    Returns:
        BaseDataset, optional: the dataset, or None if it is not a dataset of MMEngine.

    Raises:
        DatasetError: if its type does not exist or its class refuses an argument.
    """
    with DATASETS.switch_scope_and_registry(scope) as registry:
        kind = config.get('type')
        cls = registry.get(kind) if isinstance(kind, str) else kind
    if cls is None:
        raise DatasetError(
            f'{key}.type={kind!r} is not a dataset of default_scope={scope!r}: it is misspelt, or belongs to the other '
            f'host{suggest_registered(str(kind), registry)}'
        )
    if isinstance(config.get('ann_file'), list):
        raise DatasetError(
            f'{key}.ann_file is a list, but MMEngine accepts one file: use one dataset for each file in '
            "dict(type='ConcatDataset', datasets=[...])"
        )
    if not issubclass(cls, BaseDataset):
        return None
    arguments = config.to_dict() if isinstance(config, ConfigDict) else dict(config)
    for name in ('type', '_scope_'):
        arguments.pop(name, None)
    try:
        return cls(**{**arguments, 'pipeline': [], 'lazy_init': True})
    except Exception as error:  # any error of the constructor concerns the config
        message = f'{key}: {cls.__name__} cannot be built: {explain(error)}'
        known = argument_names(cls)
        unknown = [name for name in arguments if name not in known and repr(name) in str(error)]
        hint = did_you_mean(unknown[0], known) if unknown else ''
        raise DatasetError(message + hint) from error
