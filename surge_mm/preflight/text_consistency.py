"""Consistency of a config for texts: the data sets agree with the model, with the metrics and with each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from surge_mm.datasets.language.holdout import PARTS
from surge_mm.datasets.language.wordpiece import load_vocabulary
from surge_mm.preflight.selection import select
from surge_mm.utils.class_names import class_name
from surge_mm.utils.errors import DatasetError, UsageError
from surge_mm.utils.packages import require_packages


def check_texts(key: str, dataset: Any) -> None:
    """Check that the split of a data set exists and that its sentences can be tokenized.

    Args:
        key (str): config key of the data set.
        dataset (GlueDataset): the data set.

    Raises:
        DatasetError: if there is no such split, or the package ``tokenizers`` is missing.
    """
    try:
        require_packages('language', 'tokenizers')
        dataset.check_split()
    except UsageError as error:
        raise DatasetError(f'{key}: {error}') from error


def match_text(key: str, dataset: Any, cfg: Config) -> None:
    """Check that the model of a config takes the texts of a data set and predicts its labels.

    Args:
        key (str): config key of the data set.
        dataset (GlueDataset): the data set.
        cfg (Config): config of the run.

    Raises:
        DatasetError: if the number of classes, of tokens or of positions does not fit.
    """
    model = cfg.get('model') or {}
    backbone = model.get('backbone') or {}
    outputs = dataset.task.num_outputs
    classes = model.get('num_classes', outputs)
    if classes != outputs:
        raise DatasetError(
            f'model.num_classes={classes}, but {key} has '
            f'{outputs if outputs > 1 else "scores, which one output predicts"}\n'
            f'  set it with --cfg-options model.num_classes={outputs}'
        )
    for argument, default, needed, what in (
        ('vocab_size', 30522, len(dataset.vocabulary), 'tokens in its vocab'),
        ('max_position_embeddings', 512, dataset.max_length, 'as max_length'),
    ):
        has = backbone.get(argument, default)
        if class_name(backbone.get('type')) == 'SurgeBert' and has < needed:
            raise DatasetError(
                f'model.backbone.{argument}={has} is less than {needed}, which {key} has {what}: use the vocab.txt of '
                'the model, or a smaller max_length'
            )


def match_pretrained(key: str, dataset: Any, cfg: Config) -> list[str]:
    """Check that the folders of Hugging Face that a model starts from, or learns from, have the tokens of a data set.

    Args:
        key (str): config key of the data set.
        dataset (GlueDataset): the data set.
        cfg (Config): config of the run.

    Returns:
        list[str]: path of the ``vocab.txt`` of each folder that has one.

    Raises:
        DatasetError: if one of them is another vocabulary, or wrong.
    """
    files = []
    for argument, folder in _folders('model', cfg.get('model')):
        file = Path(folder).expanduser() / 'vocab.txt'
        if not file.is_file():
            continue
        files.append(str(file))
        if load_vocabulary(file) != dataset.vocabulary:
            raise DatasetError(
                f'{key}.vocab={str(dataset.vocab)!r} differs from vocab.txt of {argument}={folder!r}: use that '
                'vocabulary for all data sets, or another folder'
            )
    return files


def _folders(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield key and path of the folders of Hugging Face in a part of a config."""
    if isinstance(value, Mapping):
        names = ['checkpoint'] if key.endswith('.teacher') else []
        if class_name(value.get('type')) == 'HuggingFaceInit':
            names.append('folder')
        for name in names:
            if isinstance(value.get(name), str):
                yield f'{key}.{name}', value[name]
        for name, inner in value.items():
            yield from _folders(f'{key}.{name}', inner)
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            yield from _folders(f'{key}.{number}', inner)


def count_rows(key: str, dataset: Any) -> str:
    """Read the rows of a data set, and describe how many of them ``indices`` selects.

    Args:
        key (str): config key of the data set.
        dataset (GlueDataset): the data set.

    Returns:
        str: a line with the number of rows, and of those of each class.

    Raises:
        DatasetError: if a row is wrong, or ``indices`` selects none or one that does not exist.
    """
    rows = dataset.read()
    total = f'{len(rows):,} rows'
    rows = select(key, dataset, rows, total)
    if dataset._indices is not None:
        total = f'{len(rows):,} of {total}'
    labels = [row.label for row in rows]
    classes = dataset.task.classes
    counts = [f'{labels.count(number):,} {name}' for number, name in enumerate(classes)]
    span = ', '.join(counts) or f'scores from {min(labels):g} to {max(labels):g}'
    return f'{key}: {total}, {span}'


def match_evaluator(key: str, evaluator: Any, task: str) -> None:
    """Check that a metric of GLUE is that of the task.

    Args:
        key (str): config key of the evaluator.
        evaluator (Any): its config.
        task (str): task of the data set.

    Raises:
        DatasetError: if it is another one.
    """
    if not isinstance(evaluator, Mapping) or class_name(evaluator.get('type')) != 'GlueMetric':
        return
    if evaluator.get('task') != task:
        raise DatasetError(
            f'{key}.task={evaluator.get("task")!r}, but the data set has task={task!r}\n'
            f'  set it with --cfg-options {key}.task={task}'
        )


def match_holdout(key: str, dataset: Any, found: Mapping[str, Any]) -> list[str]:
    """Compare the rows that the data sets of a config hold out of a training file.

    Args:
        key (str): config key of the data set.
        dataset (GlueDataset): the data set.
        found (Mapping[str, GlueDataset]): other data sets of the config, by config key.

    Returns:
        list[str]: a warning if the splits ``'fit'`` and ``'holdout'`` hold out other rows, so that they may overlap.
    """
    for other, one in found.items():
        if {dataset.split, one.split} == set(PARTS) and dataset.holdout_rows != one.holdout_rows:
            return [
                f'warning: {key}.holdout_rows={dataset.holdout_rows}, but {other}.holdout_rows={one.holdout_rows}: '
                "rows of the split 'holdout' may be rows of 'fit', or rows are in neither. Set both to the same number"
            ]
    return []


def match_vocabularies(found: Mapping[str, Any]) -> None:
    """Check that all data sets of a config turn the same sentence into the same tokens.

    Args:
        found (Mapping[str, GlueDataset]): the data sets of texts, by config key.

    Raises:
        DatasetError: if vocabulary or case differ.
    """
    first, *others = found
    for key in others:
        for name in ('vocabulary', 'lowercase'):
            if found[key].metainfo[name] != found[first].metainfo[name]:
                raise DatasetError(
                    f'{key} and {first} differ in {"vocab" if name == "vocabulary" else name}: set both to that of the '
                    'model'
                )
