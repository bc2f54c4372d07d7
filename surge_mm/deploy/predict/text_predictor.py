"""Predictions of a packed text classifier for sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from surge_mm.datasets.language.sentences import Text, check_texts
from surge_mm.datasets.language.tasks import TASKS
from surge_mm.datasets.language.wordpiece import build_tokenizer
from surge_mm.utils.errors import UsageError

BATCH = 32


class TextPredictor:
    """Run a text classifier on sentences, and describe what it predicts.

    Args:
        model (nn.Module): Text classifier with ``vocabulary`` and ``dataset_meta``, as
            :func:`surge_mm.deploy.load_packed` returns it.

    Attributes:
        classes (tuple[str, ...]): Names of the classes. Empty for a regression.
        num_sentences (int | None): Number of sentences of a text, 1 or 2; None if the task of the model is not known.

    Raises:
        UsageError: if the model has no vocabulary, or the package ``tokenizers`` is missing.
    """

    def __init__(self, model: nn.Module) -> None:
        vocabulary = getattr(model, 'vocabulary', None)
        if vocabulary is None:
            raise UsageError(
                f'{type(model).__name__} has no vocabulary: it is no classifier of texts, or was exported without its '
                'vocab.txt. Export it again, with the vocab.txt of the training in test_dataloader.dataset.vocab'
            )
        self.model = model
        self.tokenizer = build_tokenizer(**vocabulary)
        meta: dict[str, Any] = model.dataset_meta  # type: ignore[assignment]
        self.classes = tuple(map(str, meta.get('classes') or ()))
        task = TASKS.get(str(meta.get('task')))
        self.num_sentences = len(task.sentences) if task else None

    @torch.no_grad()
    def predict(self, texts: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
        """Return the predictions for texts, in batches of similar length.

        Args:
            texts (Sequence[Sequence[str]]): One or two sentences each.

        Returns:
            list[dict]: For each text ``label`` (int), ``class`` (str) and ``score``, the probability of this class; or
            for a regression ``score`` alone. ``truncated`` is whether the text has too many tokens and was cut.

        Raises:
            UsageError: if a text is a string, or has another number of sentences than the model takes.
        """
        if isinstance(texts, str) or any(isinstance(text, str) for text in texts):
            raise UsageError("predict takes a list of sentences for each text: [['a good film']]")
        check_texts([Text(tuple(text)) for text in texts], self.num_sentences)
        encoded = self.tokenizer.encode_batch(
            [tuple(text) if len(text) > 1 else text[0] for text in texts]
        )
        found: list[dict[str, Any]] = [{} for _ in texts]
        order = sorted(range(len(texts)), key=lambda index: len(encoded[index].ids))
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            inputs = {
                'input_ids': [torch.tensor(encoded[index].ids) for index in batch],
                'token_type_ids': [torch.tensor(encoded[index].type_ids) for index in batch],
            }
            samples = self.model.test_step({'inputs': inputs})  # type: ignore[operator]
            for index, sample in zip(batch, samples, strict=True):
                found[index] = {
                    **self._described(sample),
                    'truncated': bool(encoded[index].overflowing),
                }
        return found

    def _described(self, sample: Any) -> dict[str, Any]:
        if 'pred_label' not in sample:
            return {'score': float(sample.pred_score)}
        label = int(sample.pred_label)
        name = self.classes[label] if label < len(self.classes) else str(label)
        return {'label': label, 'class': name, 'score': float(sample.pred_score[label])}
