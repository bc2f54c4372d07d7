"""tools/classify.py with the packed file of a small classifier."""

import json

import pytest
import torch
from helpers.glue_files import TOKENS
from helpers.packed_text_files import text_config, text_file, text_model
from helpers.tools import run_tool

from surge_mm.deploy import TextPredictor, load_packed
from surge_mm.utils.errors import UsageError

pytest.importorskip('tokenizers')


@pytest.fixture(scope='module')
def path(tmp_path_factory):
    return text_file(tmp_path_factory.mktemp('text'))


@pytest.fixture(scope='module')
def pairs(tmp_path_factory):
    """Write the packed file of a regression of pairs."""
    return text_file(tmp_path_factory.mktemp('pairs'), task='stsb', num_classes=1)


def tokens(*sentences):
    """Return ids and segments of BERT, by hand: every word of the sentences is a token."""
    ids, types = [TOKENS.index('[CLS]')], [0]
    for segment, sentence in enumerate(sentences):
        words = [*sentence.split(), '[SEP]']
        ids += [TOKENS.index(word) for word in words]
        types += [segment] * len(words)
    return torch.tensor([ids]), torch.tensor([types])


@torch.no_grad()
def logits(folder, *sentences, **settings):
    """Return the logits of the trained model, which is not packed."""
    ids, types = tokens(*sentences)
    inputs = {'input_ids': ids, 'token_type_ids': types, 'attention_mask': torch.ones_like(ids)}
    return text_model(text_config(folder, **settings))(inputs)[0]


def test_sentences_and_files_get_the_class_and_probability_of_the_trained_model(path, tmp_path):
    (tmp_path / 'more.txt').write_bytes(b'\xef\xbb\xbfdull plot\r\nthe film is not very good\r\n')
    words = (path, 'a good film', 'more.txt', '--json', 'found.json')
    done = run_tool('classify', *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    sentences = ['a good film', 'dull plot', 'the film is not very good']
    scores = [logits(path.parent, sentence).softmax(0) for sentence in sentences]
    classes = [('negative', 'positive')[int(score.argmax())] for score in scores]
    rows = zip(classes, scores, sentences, strict=True)
    assert done.stdout.splitlines() == [
        f'{name}\t{score.max():.4f}\t{sentence}' for name, score, sentence in rows
    ]
    found = json.loads((tmp_path / 'found.json').read_text())
    assert found['classes'] == ['negative', 'positive'] and found['model'] == str(path)
    places = [(row['file'], row['line'], row['sentences']) for row in found['results']]
    assert places == [
        (None, None, [sentences[0]]),
        ('more.txt', 1, [sentences[1]]),
        ('more.txt', 2, [sentences[2]]),
    ]
    assert [row['class'] for row in found['results']] == classes
    assert [row['score'] for row in found['results']] == pytest.approx(
        [float(score.max()) for score in scores], rel=1e-6
    )
    again = run_tool('classify', *words, folder=tmp_path)
    assert again.returncode == 1 and "'found.json' exists already" in again.stderr


def test_pairs_are_separated_by_a_tab_and_a_regression_prints_its_number(pairs, tmp_path):
    done = run_tool('classify', pairs, 'a film\tthe film is good', folder=tmp_path)
    expected = logits(pairs.parent, 'a film', 'the film is good', task='stsb', num_classes=1)
    assert done.stdout == f'{float(expected):.4f}\ta film\tthe film is good\n', done.stderr
    done = run_tool('classify', pairs, 'a film', folder=tmp_path)
    message = "sentence 'a film': 1 sentence, but the model takes two sentences, separated by a tab"
    assert done.returncode == 1 and message in done.stderr


@pytest.mark.parametrize(
    ('texts', 'message'),
    [
        ('ok', 'a list of sentences'),
        (['ok'], 'a list of sentences'),
        ([['a film', 'good']], 'the model takes one sentence'),
        ([[]], 'the model takes one sentence'),
    ],
)
def test_texts_in_another_form_are_errors_in_a_program(texts, message, path):
    with pytest.raises(UsageError, match=message):
        TextPredictor(load_packed(path)).predict(texts)


def test_a_text_that_is_cut_is_named(path, tmp_path):
    (tmp_path / 'long.txt').write_text('good\n' + 'very ' * 14 + 'good\n')
    done = run_tool('classify', path, 'long.txt', folder=tmp_path)
    cut = logits(path.parent, 'very ' * 14).softmax(0).max()
    assert f'{cut:.4f}\tvery very' in done.stdout
    assert '1 of 2 have more than 16 tokens' in done.stderr and 'long.txt, line 2' in done.stderr


@pytest.mark.parametrize(
    'content, message',
    [
        (None, 'a.txt is missing. Name a text file with a sentence a line'),
        (b'', 'a.txt is empty'),
        (b'good\n\xff\n', 'a.txt, line 2 is not UTF-8'),
        (b'good\n \ngood\n', 'a.txt, line 2: a sentence is empty: remove the line, or add the'),
        (b'good\tfilm\n', 'a.txt, line 1: 2 sentences separated by tabs, but the model takes one'),
    ],
)
def test_a_wrong_file_is_named_with_its_line(content, message, path, tmp_path):
    if content is not None:
        (tmp_path / 'a.txt').write_bytes(content)
    done = run_tool('classify', path, 'a.txt', folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, '') and message in done.stderr


def test_a_file_without_a_vocabulary_says_how_to_export_it(path, tmp_path):
    cfg = text_config(path.parent, vocab='no.txt')
    cfg.dump(tmp_path / 'text.py')
    torch.save({'state_dict': text_model(cfg).state_dict()}, tmp_path / 'epoch_1.pth')
    words = ('text.py', 'epoch_1.pth', 'text.safetensors')
    done = run_tool('export', *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    done = run_tool('classify', 'text.safetensors', 'a film', folder=tmp_path)
    assert done.returncode == 1
    assert 'TextClassifier has no vocabulary' in done.stderr
    assert 'test_dataloader.dataset.vocab' in done.stderr


def test_detect_names_the_tool_for_texts(path, tmp_path):
    import cv2
    import numpy as np

    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((8, 8, 3), np.uint8))
    done = run_tool('detect', path, 'a.png', folder=tmp_path)
    assert (
        done.returncode == 1 and 'takes texts, not images: python tools/classify.py' in done.stderr
    )
