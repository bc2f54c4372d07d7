"""Vocabulary of a text classifier in its packed file, from which the tokenizer is built.

It is a dict with the arguments of :func:`surge_mm.datasets.language.wordpiece.build_tokenizer`: ``tokens``,
``lowercase`` and ``max_length``.
"""

from __future__ import annotations

from typing import Any

from mmengine.config import Config
from torch import nn

from surge_mm.datasets.evaluation_set import TEXTS, evaluation_set
from surge_mm.datasets.language.wordpiece import (
    MAX_LENGTH,
    VOCAB,
    check_tokens,
    load_vocabulary,
    vocabulary_id,
)
from surge_mm.utils.class_names import class_name
from surge_mm.utils.errors import DatasetError, UsageError
from surge_mm.utils.modules import encoder_sizes


def vocabulary_to_store(model: nn.Module, cfg: Config) -> dict[str, Any] | None:
    """Return the vocabulary of the test set of a config, or that of a loaded model; None for a model of images.

    Args:
        model (nn.Module): The packed model. Its ``dataset_meta`` has the vocabulary of the training.
        cfg (Config): Its config.

    Raises:
        DatasetError: if the vocabulary file is missing or wrong, is not that of the training, or does not fit the
            model.
    """
    vocabulary = getattr(model, 'vocabulary', None)
    dataset = evaluation_set(cfg)
    if vocabulary is None and class_name(dataset.get('type')) != TEXTS:
        return None
    if vocabulary is None:
        path = dataset.get('vocab', VOCAB)
        vocabulary = {
            'tokens': load_vocabulary(path),
            'lowercase': dataset.get('lowercase', True),
            'max_length': dataset.get('max_length', MAX_LENGTH),
        }
        given = {'vocabulary': vocabulary_id(vocabulary['tokens'])}
        given['lowercase'] = vocabulary['lowercase']
        trained = getattr(model, 'dataset_meta', None) or {}
        for key, value in given.items():
            if trained.get(key, value) != value:
                raise DatasetError(
                    f'{key} of test_dataloader.dataset, with the file {path}, is {value!r}, but the model was trained '
                    f'with {trained[key]!r}: set both to that of the training'
                )
    check_vocabulary_fits(vocabulary, model)
    return vocabulary


def check_vocabulary(vocabulary: Any) -> None:
    """Check the vocabulary of a packed file.

    Args:
        vocabulary (Any): The value in the file.

    Raises:
        UsageError: if it is not a dict as in the description of this module, or a token is wrong.
    """
    if not isinstance(vocabulary, dict) or set(vocabulary) != {'tokens', 'lowercase', 'max_length'}:
        raise UsageError('its vocabulary must be a dict with tokens, lowercase and max_length')
    tokens, length = vocabulary['tokens'], vocabulary['max_length']
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise UsageError('its vocabulary.tokens must be a list of texts')
    if not isinstance(vocabulary['lowercase'], bool):
        raise UsageError(
            f'its vocabulary.lowercase={vocabulary["lowercase"]!r:.200} must be true or false'
        )
    if not isinstance(length, int) or length < 8:
        raise UsageError(
            f'its vocabulary.max_length={length!r:.200} must be an integer of at least 8'
        )
    check_tokens(tokens, 'its vocabulary')
    vocabulary_id(tokens)  # a ValueError for unpaired surrogates


def check_vocabulary_fits(vocabulary: dict[str, Any], model: nn.Module) -> None:
    """Check that a model has an embedding for each token and each position.

    Args:
        vocabulary (dict[str, Any]): The vocabulary.
        model (nn.Module): The model.

    Raises:
        DatasetError: if it has fewer.
    """
    encoder = getattr(model, 'bert', None)
    sizes = {} if encoder is None else encoder_sizes(encoder)
    for name, needed, what in (
        ('vocab_size', len(vocabulary['tokens']), 'tokens'),
        ('max_position_embeddings', vocabulary['max_length'], 'as max_length'),
    ):
        if sizes.get(name, needed) < needed:
            raise DatasetError(
                f'its model has {name}={sizes[name]}, less than {needed}, which its vocabulary has {what}'
            )
