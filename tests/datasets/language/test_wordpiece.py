import pytest
from helpers.glue_files import TOKENS

from surge_mm.datasets.language.wordpiece import load_vocabulary, vocabulary_id
from surge_mm.utils.errors import DatasetError


def test_the_line_of_a_token_is_its_number(vocab):
    assert load_vocabulary(vocab) == TOKENS
    assert vocabulary_id(TOKENS) != vocabulary_id([*TOKENS[:5], *reversed(TOKENS[5:])])


@pytest.mark.parametrize(
    'tokens, message',
    [
        (TOKENS[1:], r'lacks the token \[PAD\]'),
        ([t for t in TOKENS if t not in ('[CLS]', '[SEP]')], r'lacks the token \[CLS\], \[SEP\]'),
        ([*TOKENS, 'film'], rf"line {len(TOKENS) + 1} repeats the token 'film' of line 8"),
        ([*TOKENS[:6], '', *TOKENS[6:]], 'line 7 is empty'),
    ],
)
def test_a_wrong_vocabulary_is_named_with_the_line(tmp_path, tokens, message):
    path = tmp_path / 'vocab.txt'
    path.write_text('\n'.join(tokens))
    with pytest.raises(DatasetError, match=message) as error:
        load_vocabulary(path)
    assert str(path) in str(error.value) and 'vocab.txt of the model' in str(error.value)


def test_a_missing_vocabulary_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r'none\.txt is missing'):
        load_vocabulary(tmp_path / 'none.txt')
