"""Models of Hugging Face transformers load from a local folder, key for key, and give the same logits."""

import json
import math

import pytest
import torch
from helpers.text_models import BIT, SIZES, text_batch, text_classifier
from safetensors.torch import save_file

from surge_mm import SurgeLinear
from surge_mm.utils.errors import CheckpointError, UsageError

LOGITS = [
    [2.1699095, 1.7212036, -0.8656858],
    [2.1691241, 1.7204874, -0.8659172],
    [2.1693461, 1.7207031, -0.865535],
    [2.1735685, 1.7243743, -0.8659928],
]
"""Logits of BertForSequenceClassification of transformers 5.24 for the weights of :func:`tensors` and text_batch()."""


def tensors(prefix='bert.', layers=2, classes=3):
    """Return made-up weights under Hugging Face's names, the same on every machine."""
    width, inner = SIZES['hidden_size'], SIZES['intermediate_size']
    shapes = {
        'embeddings.word_embeddings.weight': (SIZES['vocab_size'], width),
        'embeddings.position_embeddings.weight': (SIZES['max_position_embeddings'], width),
        'embeddings.token_type_embeddings.weight': (2, width),
        **norm('embeddings'),
    }
    for i in range(layers):
        layer = f'encoder.layer.{i}'
        for part in ('self.query', 'self.key', 'self.value', 'output.dense'):
            shapes |= linear(f'{layer}.attention.{part}', width, width)
        shapes |= norm(f'{layer}.attention.output')
        shapes |= linear(f'{layer}.intermediate.dense', inner, width)
        shapes |= linear(f'{layer}.output.dense', width, inner) | norm(f'{layer}.output')
    shapes |= linear('pooler.dense', width, width)
    named = {prefix + name: shape for name, shape in shapes.items()}
    if classes:
        named |= linear('classifier', classes, width)
    return {name: values(shape, i) for i, (name, shape) in enumerate(named.items())}


def norm(name):
    width = SIZES['hidden_size']
    return {f'{name}.LayerNorm.weight': (width,), f'{name}.LayerNorm.bias': (width,)}


def linear(name, outputs, inputs):
    return {f'{name}.weight': (outputs, inputs), f'{name}.bias': (outputs,)}


def values(shape, seed):
    numbers = torch.arange(math.prod(shape), dtype=torch.float64)
    noise = (torch.sin(numbers * 12.9898 + seed * 7.31 + 1) * 43758.5453).frac()
    return (0.7 * noise).float().reshape(shape)


def folder(path, weights=None, name='model.safetensors', **config):
    """Write a folder as transformers does."""
    content = {'model_type': 'bert', 'type_vocab_size': 2, 'hidden_act': 'gelu', **SIZES, **config}
    (path / 'config.json').write_text(json.dumps(content))
    weights = tensors() if weights is None else weights
    if name.endswith('.bin'):
        torch.save(weights, path / name)
    else:
        save_file(weights, path / name)
    return {'type': 'surge_mm.HuggingFaceInit', 'folder': str(path)}


def logits(init_cfg=None, **settings):
    model = text_classifier(
        **{'num_classes': 3, 'linear_cfg': None, 'init_cfg': init_cfg, **settings}
    )
    with torch.no_grad():
        return model.eval()(text_batch(padding=2)), model


@pytest.mark.parametrize('name', ['model.safetensors', 'pytorch_model.bin'])
def test_logits_are_those_of_hugging_face(tmp_path, name):
    got, model = logits(folder(tmp_path, name=name))
    torch.testing.assert_close(got, torch.tensor(LOGITS), rtol=0, atol=1e-5)
    assert model.state_dict().keys() == tensors().keys()


def test_the_recorded_logits_are_those_of_transformers(tmp_path):
    transformers = pytest.importorskip('transformers')
    config = transformers.BertConfig(**SIZES, num_labels=3)
    theirs = transformers.BertForSequenceClassification(config).eval()
    theirs.load_state_dict(tensors())
    theirs.save_pretrained(tmp_path)
    with torch.no_grad():
        expected, hidden = theirs(**text_batch(), output_hidden_states=True).values()
    torch.testing.assert_close(expected, torch.tensor(LOGITS), rtol=0, atol=1e-5)
    got, model = logits({'type': 'surge_mm.HuggingFaceInit', 'folder': str(tmp_path)})
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    out = model.bert(text_batch(), output_hidden_states=True)
    tokens = text_batch()['attention_mask'].bool()
    for ours, their_state in zip(out.hidden_states, hidden, strict=True):
        torch.testing.assert_close(ours[tokens], their_state[tokens], rtol=0, atol=1e-5)


def test_an_encoder_alone_and_old_names_of_norms_load(tmp_path):
    weights = {
        key.replace('LayerNorm.weight', 'LayerNorm.gamma').replace(
            'LayerNorm.bias', 'LayerNorm.beta'
        ): value
        for key, value in tensors(prefix='', classes=0).items()
    }
    weights['embeddings.position_ids'] = torch.arange(12)[None]
    weights['cls.predictions.bias'] = torch.zeros(40)
    _, model = logits(folder(tmp_path, weights))
    expected = tensors()
    for key, value in model.state_dict().items():
        assert key.startswith('classifier') or torch.equal(value, expected[key]), key


def test_a_binary_student_starts_from_the_folder(tmp_path):
    init_cfg = folder(tmp_path)
    _, model = logits(init_cfg, **BIT)
    layer = model.bert.encoder.layer[1].output.dense
    assert isinstance(layer, SurgeLinear)
    expected = tensors()['bert.encoder.layer.1.output.dense.weight']
    assert torch.equal(layer.weight, expected) and torch.equal(layer.aux_weight, expected)
    assert layer.activation_scale_bits == 0
    backbone_alone = text_classifier(num_classes=2, backbone_init=init_cfg)
    assert torch.equal(backbone_alone.bert.encoder.layer[1].output.dense.weight, expected)


def test_a_missing_pooler_and_another_activation_are_warned_of(tmp_path, monkeypatch):
    warned = []
    monkeypatch.setattr('surge_mm.models.hugging_face_init.warn', warned.append)
    weights = {key: value for key, value in tensors().items() if 'pooler' not in key}
    init_cfg = folder(tmp_path, weights)
    _, model = logits(init_cfg, pooling='mean')
    assert model.bert.pooler is None and not warned
    logits(init_cfg)
    assert 'has no pooler, which starts at random' in warned.pop()
    logits(init_cfg, pooling='mean', activation='relu')
    assert "hidden_act='gelu' of the folder is activation='relu' in SurgeBert" in warned.pop()
    logits(folder(tmp_path), pooling='mean')
    assert 'classifier takes the feature of its pooler' in warned.pop()


WRONG_CONFIGS = {
    'depth': ({'num_hidden_layers': 3}, r'num_hidden_layers=3 is 2 in the model. Set num_hidden'),
    'vocabulary': ({'vocab_size': 41}, 'vocab_size=41 is 40 in the model'),
    'heads': ({'num_attention_heads': 4}, 'num_attention_heads=4 is 2 in the model'),
    'model type': ({'model_type': 'roberta'}, "model_type='roberta' must be 'bert'"),
    'positions': ({'position_embedding_type': 'relative_key'}, "must be 'absolute'"),
    'eps': ({'layer_norm_eps': 1e-5}, 'layer_norm_eps=1e-05 is 1e-12'),
}


@pytest.mark.parametrize(('config', 'message'), WRONG_CONFIGS.values(), ids=WRONG_CONFIGS)
def test_a_folder_of_another_model_is_an_error(tmp_path, config, message):
    with pytest.raises(UsageError, match=rf'config.json.*{message}'):
        logits(folder(tmp_path, **config))


def test_weights_of_another_depth_width_or_number_of_classes_are_an_error(tmp_path):
    with pytest.raises(UsageError, match=r"does not match.*'encoder.layer.1.*missing"):
        logits(folder(tmp_path, tensors(layers=1)))
    with pytest.raises(UsageError, match=r"'encoder.layer.2.*missing in the model"):
        logits(folder(tmp_path, tensors(layers=3)))
    with pytest.raises(UsageError, match='has 4 classes, and num_classes=3'):
        logits(folder(tmp_path, tensors(classes=4)))


def test_names_of_repositories_and_missing_or_damaged_files_are_errors(tmp_path):
    kind = 'surge_mm.HuggingFaceInit'
    with pytest.raises(
        UsageError, match="folder='bert-base-uncased' is no folder. .*not downloaded"
    ):
        logits({'type': kind, 'folder': 'bert-base-uncased'})
    init_cfg = {'type': kind, 'folder': str(tmp_path)}
    with pytest.raises(UsageError, match='has no config.json'):
        logits(init_cfg)
    folder(tmp_path)
    (tmp_path / 'model.safetensors').rename(tmp_path / 'other.safetensors')
    with pytest.raises(UsageError, match='neither model.safetensors nor pytorch_model.bin'):
        logits(init_cfg)
    (tmp_path / 'model.safetensors.index.json').write_text('{}')
    with pytest.raises(UsageError, match='in several files'):
        logits(init_cfg)
    for name in ('pytorch_model.bin', 'model.safetensors', 'config.json'):
        (tmp_path / name).write_bytes(b'\x80broken')
        with pytest.raises(CheckpointError, match=name):
            logits(init_cfg)


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    class Run:
        def __reduce__(self):
            return (open, (str(tmp_path / 'ran'), 'w'))

    init_cfg = folder(tmp_path, {'bert.x': Run()}, 'pytorch_model.bin')
    with pytest.raises(CheckpointError, match='pytorch_model.bin'):
        logits(init_cfg)
    assert not (tmp_path / 'ran').exists()


def test_a_checkpoint_of_the_training_of_another_depth_is_an_error():
    state = text_classifier().state_dict()
    with pytest.raises(UsageError, match=r"does not match SurgeBert.*'bert.encoder.layer.2"):
        text_classifier(num_hidden_layers=3).load_state_dict(state)
    with pytest.raises(UsageError, match=r"'bert.embeddings.word_embeddings.weight' is \(40, 16\)"):
        text_classifier(vocab_size=50).load_state_dict(state)
    with pytest.raises(UsageError, match="add prefix='bert.' to init_cfg"):
        text_classifier().bert.load_state_dict(state)
