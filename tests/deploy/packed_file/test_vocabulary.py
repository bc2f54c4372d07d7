"""The packed file of a classifier of texts holds its vocabulary."""

import pytest
import torch
from helpers.glue_files import TOKENS
from helpers.packed_files import changed, setting
from helpers.packed_text_files import text_config, text_file, text_model

from surge_mm.datasets.language.glue import GlueDataset
from surge_mm.datasets.language.wordpiece import build_tokenizer
from surge_mm.deploy import load_packed, save_packed
from surge_mm.deploy.packed_file.format import read_packed
from surge_mm.utils.errors import CheckpointError


@pytest.fixture(scope='module')
def path(tmp_path_factory):
    return text_file(tmp_path_factory.mktemp('text'))


@torch.no_grad()
def test_a_file_alone_turns_a_sentence_into_the_logits_of_the_trained_model(path, tmp_path):
    pytest.importorskip('tokenizers')
    folder = path.parent
    dataset = GlueDataset('sst2', str(folder), 'dev', str(folder / 'vocab.txt'), max_length=16)
    item = dataset[1]['inputs']
    sentence = dataset.read()[1].sentences[0]
    expected = text_model(text_config(folder)).test_step(
        {'inputs': {name: [value] for name, value in item.items()}}
    )[0]
    alone = tmp_path / 'elsewhere.safetensors'
    alone.write_bytes(path.read_bytes())
    model = load_packed(alone)
    assert model.vocabulary == {'tokens': TOKENS, 'lowercase': True, 'max_length': 16}
    assert model.dataset_meta['task'] == 'sst2' and 'vocabulary' not in model.cfg
    encoded = build_tokenizer(**model.vocabulary).encode(sentence)
    assert encoded.ids == item['input_ids'].tolist()
    inputs = {
        'input_ids': [torch.tensor(encoded.ids)],
        'token_type_ids': [torch.tensor(encoded.type_ids)],
    }
    (found,) = model.test_step({'inputs': inputs})
    assert torch.equal(found.pred_score, expected.pred_score)
    save_packed(model, tmp_path / 'again.safetensors', model.cfg)
    assert read_packed(tmp_path / 'again.safetensors').sha256 == read_packed(path).sha256


@pytest.mark.parametrize(
    'key, value, message',
    [
        ('vocabulary', 3, 'must be a dict with tokens, lowercase and max_length'),
        ('vocabulary.path', '/etc/passwd', 'must be a dict with tokens, lowercase and max_length'),
        ('vocabulary.tokens', 'vocab.txt', 'tokens must be a list of texts'),
        ('vocabulary.tokens', [*TOKENS, 3], 'tokens must be a list of texts'),
        ('vocabulary.tokens', TOKENS[:-1] + ['a'], 'line 22 repeats the token .a. of line 6'),
        ('vocabulary.tokens', TOKENS[1:], r'lacks the token \[PAD\]'),
        ('vocabulary.tokens', [*TOKENS, '\ud800'], 'malformed .UnicodeEncodeError'),
        ('vocabulary.tokens', [*TOKENS, 'more'], 'vocab_size=22, less than 23'),
        ('vocabulary.lowercase', 'yes', "lowercase='yes' must be true or false"),
        ('vocabulary.max_length', 2, 'max_length=2 must be an integer of at least 8'),
        ('vocabulary.max_length', 17, 'max_position_embeddings=16, less than 17'),
    ],
)
def test_a_wrong_vocabulary_of_a_file_is_refused(key, value, message, path, tmp_path):
    file = changed(path, setting(key, value), target=tmp_path / 'a.safetensors')
    with pytest.raises(CheckpointError, match=message):
        load_packed(file)


@pytest.mark.parametrize(
    'dataset, trained, message',
    [
        ({'vocab': 'no.txt'}, {}, 'no.txt is missing'),
        ({}, {'vocabulary': '0' * 16}, "the model was trained with '0000000000000000'"),
        (
            {'lowercase': False},
            {'lowercase': True},
            'is False, but the model was trained with True',
        ),
        ({'max_length': 17}, {}, 'max_position_embeddings=16, less than 17'),
    ],
)
def test_a_vocabulary_that_is_not_that_of_the_model_is_left_out_with_a_warning(
    dataset, trained, message, path, tmp_path, monkeypatch
):
    said = []
    monkeypatch.setattr('surge_mm.deploy.packed_file.config_models.warn', said.append)
    cfg = text_config(path.parent, **dataset)
    model = load_packed(path)
    del model.vocabulary
    model.dataset_meta = {**model.dataset_meta, **trained}
    save_packed(model, tmp_path / 'a.safetensors', cfg)
    assert len(said) == 1 and message in said[0]
    assert not hasattr(load_packed(tmp_path / 'a.safetensors'), 'vocabulary')
