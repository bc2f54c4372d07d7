"""Padding of sentences."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch.nn.utils.rnn import pad_sequence

from surge_mm.registry import MODELS
from surge_mm.utils.argument_checks import Count, checked
from surge_mm.utils.errors import UsageError


@MODELS.register_module()
class TextDataPreprocessor(BaseDataPreprocessor):
    """Pad the token sequences of a batch to the longest of them, and copy the batch to the device.

    Args:
        pad_id (int): Token of the padding, whose attention mask is 0: the line of ``[PAD]`` in the vocabulary, counted
            from 0. Defaults to 0, as in the vocabularies of BERT.
        non_blocking (bool): Copy batches to the device asynchronously. Defaults to False.
    """

    @checked
    def __init__(self, pad_id: Count = 0, non_blocking: bool = False) -> None:
        super().__init__(non_blocking)
        self.pad_id = pad_id

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Pad a batch and copy it to the device.

        Args:
            data (dict): ``inputs``, a dict of ``input_ids`` and ``token_type_ids``, each a list of B tensors of shape
                ``(L_i,)``, and, optionally, ``data_samples``.
            training (bool): Not used.

        Returns:
            dict: ``inputs``, a dict of ``input_ids``, ``token_type_ids`` and ``attention_mask`` (int64, ``(B, L)``),
            and ``data_samples``.

        Raises:
            UsageError: if ``input_ids`` or ``token_type_ids`` is missing.
        """
        missing = [name for name in ('input_ids', 'token_type_ids') if name not in data['inputs']]
        if missing:
            raise UsageError(
                f'the items of the data set lack {", ".join(missing)} in inputs; they have '
                f'{", ".join(data["inputs"]) or "none"}. Return both, as surge_mm.GlueDataset does; token_type_ids of '
                'a single sentence are 0'
            )
        ids, types = data['inputs']['input_ids'], data['inputs']['token_type_ids']
        mask = [torch.ones_like(one) for one in ids]
        inputs = {
            'input_ids': pad_sequence(ids, batch_first=True, padding_value=self.pad_id),
            'token_type_ids': pad_sequence(types, batch_first=True),
            'attention_mask': pad_sequence(mask, batch_first=True),
        }
        return self.cast_data({'inputs': inputs, 'data_samples': data.get('data_samples')})
