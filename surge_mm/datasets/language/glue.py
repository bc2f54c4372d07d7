"""The data set of a GLUE task, in GLUE's own files."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.dataset import BaseDataset
from mmpretrain.structures import DataSample

from surge_mm.datasets.language.holdout import HOLDOUT_ROWS, PARTS, split_rows
from surge_mm.datasets.language.tasks import TASKS
from surge_mm.datasets.language.tsv import Row, read_rows
from surge_mm.datasets.language.wordpiece import (
    MAX_LENGTH,
    VOCAB,
    build_tokenizer,
    load_vocabulary,
    vocabulary_id,
)
from surge_mm.registry import DATASETS
from surge_mm.utils.argument_checks import Positive, checked
from surge_mm.utils.errors import DatasetError
from surge_mm.utils.suggestions import did_you_mean


@DATASETS.register_module()
class GlueDataset(BaseDataset):
    """A task of GLUE, tokenized when it is loaded.

    An item has ``inputs``, a dict of ``input_ids`` and ``token_type_ids`` (int64, ``(L,)``), and a ``DataSample`` with
    ``gt_label``, or with ``gt_score`` for STS-B. The data preprocessor of the model is
    :class:`surge_mm.TextDataPreprocessor`.

    Args:
        task (str): ``'cola'``, ``'sst2'``, ``'mrpc'``, ``'stsb'``, ``'qqp'``, ``'mnli'``, ``'qnli'`` or ``'rte'``.
        data_root (str): Folder of GLUE, which has a folder for each task: ``CoLA``, ``SST-2``, ``MRPC``, ``STS-B``,
            ``QQP``, ``MNLI``, ``QNLI``, ``RTE``.
        split (str): Name of a file without its suffix, such as ``'train'``, ``'dev'`` or ``'dev_matched'``; or
            ``'holdout'``, rows of SST-2's training file to make choices on, or ``'fit'``, the rest of it
            (:mod:`surge_mm.datasets.language.holdout`). Defaults to 'train'.
        vocab (str): Path of the ``vocab.txt`` of the model. Defaults to 'data/bert-base-uncased/vocab.txt'.
        max_length (int): Maximum number of tokens of an item, at least 8. Further tokens are cut off. Defaults to 128.
        lowercase (bool): Whether to remove case and accents, as ``bert-base-uncased`` needs. Defaults to True.
        holdout_rows (int): Smallest number of rows of the split ``'holdout'``. Defaults to 5000.
        **kwargs: Arguments of MMEngine's BaseDataset, such as ``indices``; no pipeline.

    Raises:
        ValueError: if ``task`` is unknown, ``max_length`` is below 8, the task has no such ``split``, or there is a
            pipeline.
        DatasetError: if the vocabulary or, when it is loaded, the file of the split is missing or wrong.
    """

    @checked
    def __init__(
        self,
        task: str,
        data_root: str,
        split: str = 'train',
        vocab: str = VOCAB,
        max_length: Positive = MAX_LENGTH,
        lowercase: bool = True,
        holdout_rows: Positive = HOLDOUT_ROWS,
        **kwargs: Any,
    ) -> None:
        if task not in TASKS:
            raise ValueError(f'task={task!r} is no task of GLUE{did_you_mean(task, list(TASKS))}')
        if max_length < 8:
            raise ValueError(f'max_length={max_length} must be at least 8')
        if kwargs.get('pipeline'):
            raise ValueError(
                f'pipeline={kwargs["pipeline"]!r}: GlueDataset has no pipeline; it tokenizes the sentences itself'
            )
        if split in PARTS and task != 'sst2':
            raise ValueError(
                f"split={split!r} exists for task='sst2' alone. For task={task!r} use 'train' or 'dev'"
            )
        self.task, self.split = TASKS[task], split
        self.max_length, self.lowercase, self.holdout_rows = max_length, lowercase, holdout_rows
        self.vocab, self.vocabulary = vocab, load_vocabulary(vocab)
        file = f'{self.task.folder}/{"train" if split in PARTS else split}.tsv'
        super().__init__(**{'ann_file': file, **kwargs}, data_root=data_root)
        meta = {
            'task': task,
            'classes': self.task.classes,
            'vocabulary': vocabulary_id(self.vocabulary),
            'lowercase': lowercase,
        }
        self._metainfo: dict[str, Any] = {
            **meta,  # MMEngine would take text for the name of a file
            **self.metainfo,
        }

    def check_split(self) -> None:
        """Check that there is a file of the split, or that the split is one of GLUE, whose file is missing then.

        Raises:
            DatasetError: if it is neither.
        """
        known = [*self.task.splits, *(PARTS if self.task is TASKS['sst2'] else ())]
        folder = os.path.dirname(self.ann_file)
        if self.split in known or os.path.exists(self.ann_file) or not os.path.isdir(folder):
            return
        raise DatasetError(
            f'split={self.split!r}: {self.ann_file} is missing. The splits of '
            f'{self.task.folder} are {", ".join(map(repr, known))}'
        )

    def read(self) -> list[Row]:
        """Return the sentences and labels of the split."""
        self.check_split()
        rows = read_rows(self.ann_file, self.task)
        if self.split not in PARTS:
            return rows
        parts = split_rows(tuple(row.sentences[0] for row in rows), self.holdout_rows)
        return [rows[index] for index in parts[PARTS.index(self.split)]]

    def load_data_list(self) -> list[dict[str, Any]]:
        """Read and tokenize the split.

        Returns:
            list[dict]: ``input_ids``, ``token_type_ids`` and ``label`` of each row.
        """
        rows = self.read()
        tokenizer = build_tokenizer(self.vocabulary, self.lowercase, self.max_length)
        texts = [row.sentences if len(row.sentences) > 1 else row.sentences[0] for row in rows]
        encoded = tokenizer.encode_batch(texts)
        return [
            {'input_ids': one.ids, 'token_type_ids': one.type_ids, 'label': row.label}
            for one, row in zip(encoded, rows, strict=True)
        ]

    @functools.cached_property
    def lengths(self) -> list[int]:
        """Number of tokens of each item."""
        return [len(self.get_data_info(index)['input_ids']) for index in range(len(self))]

    def prepare_data(self, idx: int) -> dict[str, Any]:
        """Return an item.

        Args:
            idx (int): Its index.

        Returns:
            dict: ``inputs`` and ``data_samples``.
        """
        info: Mapping[str, Any] = self.get_data_info(idx)
        sample = DataSample(metainfo={'sample_idx': info['sample_idx']})
        if self.task.classes:
            sample.set_gt_label(info['label'])
        else:
            sample.set_gt_score(torch.tensor([info['label']]))
        names = ('input_ids', 'token_type_ids')
        return {
            'inputs': {name: torch.tensor(info[name]) for name in names},
            'data_samples': sample,
        }
