"""Sentences to classify, from the command line and from text files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from surge_mm.datasets.language.tsv import read_lines
from surge_mm.utils.errors import DatasetError
from surge_mm.utils.files import file_defect

SUFFIXES = ('.txt', '.tsv')


class Text(NamedTuple):
    """A sentence or a pair of sentences.

    Attributes:
        sentences (tuple[str, ...]): The sentences.
        file (str | None): File that it is from; None for the command line.
        line (int | None): Number of its line.
    """

    sentences: tuple[str, ...]
    file: str | None = None
    line: int | None = None

    @property
    def place(self) -> str:
        """Where it is from, for messages."""
        shown = ' '.join(self.sentences)
        return f'{self.file}, line {self.line}' if self.file else f'sentence {shown!r:.60}'


def read_texts(inputs: Sequence[str]) -> list[Text]:
    """Read texts. Two sentences of a pair are separated by a tab.

    Args:
        inputs (Sequence[str]): Names of files with a text a line, and texts. What ends in ``.txt`` or ``.tsv`` and has
            no space is the name of a file.

    Raises:
        DatasetError: if a file is missing, is not UTF-8 or is empty.
    """
    texts: list[Text] = []
    for given in inputs:
        named = given.endswith(SUFFIXES) and len(given.split()) == 1
        if not named and not os.path.exists(given):
            texts.append(Text(tuple(given.split('\t'))))
            continue
        if defect := file_defect(given):
            raise DatasetError(
                f'{given} {defect}. Name a text file with a sentence a line; a sentence that is the name of a folder '
                'or ends in .txt can be classified from such a file'
            )
        lines = enumerate(read_lines(given), start=1)
        texts += [Text(tuple(line.split('\t')), given, number) for number, line in lines]
    return texts


def check_texts(texts: Sequence[Text], num_sentences: int | None) -> None:
    """Check that each text has the sentences that a model takes.

    Args:
        texts (Sequence[Text]): The texts.
        num_sentences (int, optional): Number of sentences of a text. None for one or two.

    Raises:
        DatasetError: if a text has another number of sentences, or an empty one.
    """
    for text in texts:
        count = len(text.sentences)
        if any(not sentence.strip() for sentence in text.sentences):
            raise DatasetError(
                f'{text.place}: a sentence is empty: remove the line, or add the sentence'
            )
        if not 1 <= count <= 2 or num_sentences not in (None, count):
            wanted = {1: 'one sentence', 2: 'two sentences, separated by a tab'}
            has = '1 sentence' if count == 1 else f'{count} sentences separated by tabs'
            raise DatasetError(
                f'{text.place}: {has}, but the model takes {wanted.get(num_sentences or 0, "one or two")}'
            )
        try:
            '\t'.join(text.sentences).encode()
        except UnicodeEncodeError as error:
            raise DatasetError(f'{text.place} is not UTF-8: convert it to UTF-8') from error
