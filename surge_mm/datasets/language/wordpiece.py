"""BERT's WordPiece tokens: the vocabulary file, and the tokenizer that the package ``tokenizers`` makes of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import Any

from surge_mm.datasets.language.tsv import read_lines
from surge_mm.utils.errors import DatasetError
from surge_mm.utils.packages import require_packages

SPECIAL = ('[PAD]', '[UNK]', '[CLS]', '[SEP]')
VOCAB, MAX_LENGTH = 'data/bert-base-uncased/vocab.txt', 128
"""Vocabulary file and maximum number of tokens, if a config does not set them."""


def load_vocabulary(path: str | os.PathLike) -> list[str]:
    """Read a vocabulary, one token a line; the first line is token 0.

    Args:
        path (str | Path): Path of a ``vocab.txt``, such as that of BERT.

    Returns:
        list[str]: The tokens.

    Raises:
        DatasetError: if the file is missing or not UTF-8, a token is empty or repeated, or ``[PAD]``, ``[UNK]``,
            ``[CLS]`` or ``[SEP]`` is missing.
    """
    tokens = read_lines(path)
    check_tokens(tokens, str(path))
    return tokens


def check_tokens(tokens: Sequence[str], source: str) -> None:
    """Check the tokens of a vocabulary.

    Args:
        tokens (Sequence[str]): The tokens.
        source (str): Where they are from, for the message.

    Raises:
        DatasetError: if a token is empty or repeated, or one of :data:`SPECIAL` is missing.
    """
    advice = "Use the vocab.txt of the model's own folder"
    lines: dict[str, int] = {}
    for number, token in enumerate(tokens, start=1):
        if not token:
            raise DatasetError(
                f'{source}, line {number} is empty, but each line is a token. {advice}'
            )
        if token in lines:
            raise DatasetError(
                f'{source}, line {number} repeats the token {token!r} of line {lines[token]}. {advice}'
            )
        lines[token] = number
    missing = [token for token in SPECIAL if token not in lines]
    if missing:
        raise DatasetError(f'{source} lacks the token {", ".join(missing)}. {advice}')


def vocabulary_id(tokens: Sequence[str]) -> str:
    """Return a short identifier of a vocabulary: the first 16 digits of the SHA-256 of its lines."""
    return hashlib.sha256('\n'.join(tokens).encode()).hexdigest()[:16]


def build_tokenizer(tokens: Sequence[str], lowercase: bool = True, max_length: int = 512) -> Any:
    """Build BERT's tokenizer. Of a pair that is too long, the longer sentence is cut first.

    Args:
        tokens (Sequence[str]): The vocabulary.
        lowercase (bool): Whether to remove case and accents, as ``bert-base-uncased`` needs. Defaults to True.
        max_length (int): Maximum number of tokens, with ``[CLS]`` and ``[SEP]``. Defaults to 512.

    Returns:
        tokenizers.Tokenizer: Its ``encode_batch`` returns objects with ``ids`` and ``type_ids``.

    Raises:
        UsageError: if the package ``tokenizers`` is missing.
    """
    require_packages('language', 'tokenizers')
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import BertProcessing

    ids = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(WordPiece(ids, unk_token='[UNK]'))
    tokenizer.normalizer = BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = BertProcessing(('[SEP]', ids['[SEP]']), ('[CLS]', ids['[CLS]']))
    tokenizer.enable_truncation(max_length)
    return tokenizer
