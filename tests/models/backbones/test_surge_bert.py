import pytest
import torch
from helpers.text_models import BIBERT, BIT, SIZES, text_batch, text_classifier
from torch import nn

from surge_mm import SurgeBert, SurgeLinear
from surge_mm.utils.errors import UsageError


@pytest.mark.parametrize(
    'settings', [{'linear_cfg': None}, {}, BIBERT, BIT], ids=['real', 'binary', 'BiBERT', 'BiT']
)
@pytest.mark.parametrize('pooling', ['cls', 'mean'])
def test_padding_changes_no_logit(settings, pooling):
    model = text_classifier(**settings, pooling=pooling)
    model(text_batch())  # starts the scales
    model.eval()
    with torch.no_grad():
        logits, padded = model(text_batch()), model(text_batch(padding=3))
    torch.testing.assert_close(logits, padded, rtol=0, atol=1e-6)
    assert logits.std() > 1e-3


@torch.no_grad()
def test_attention_of_signs_is_exact_whatever_the_padding_and_the_batch():
    encoder = text_classifier(**BIBERT).eval().bert
    inputs = text_batch()
    alone = encoder({name: value[:1] for name, value in inputs.items()}, output_hidden_states=True)
    padded = encoder(text_batch(padding=3), output_hidden_states=True)
    for one, other in zip(alone.hidden_states, padded.hidden_states, strict=True):
        assert torch.equal(one[0], other[0, :7])


def test_binary_layers_are_projections_feed_forward_layers_and_pooler():
    model = SurgeBert(**SIZES)
    names = {name for name, m in model.named_modules() if isinstance(m, SurgeLinear)}
    parts = 'attention.self.query attention.self.key attention.self.value attention.output.dense'
    layer = [*parts.split(), 'intermediate.dense', 'output.dense']
    assert names == {'pooler.dense'} | {
        f'encoder.layer.{i}.{part}' for i in (0, 1) for part in layer
    }


def test_every_parameter_gets_a_gradient():
    model = text_classifier()
    model(text_batch()).square().sum().backward()
    # a key gets none from a constant added to all scores of a query: its bias
    missing = {
        name.rpartition('self.')[2]
        for name, p in model.named_parameters()
        if p.grad is None or not p.grad.abs().sum() > 0
    }
    assert missing <= {'key.bias'}


def test_hidden_states_are_embeddings_and_layers_with_projections_of_each_layer():
    model = text_classifier().bert.eval()
    out = model(text_batch(), output_hidden_states=True)
    assert len(out.hidden_states) == 3 and len(out.queries) == len(out.keys) == len(out.values) == 2
    assert out.hidden_states[0].shape == (4, 7, 16) and out.queries[0].shape == (4, 2, 7, 8)
    inputs = text_batch()
    embedded = model.embeddings(inputs['input_ids'], inputs['token_type_ids'])
    torch.testing.assert_close(out.hidden_states[0], embedded)
    attention = model.encoder.layer[0].attention.self
    torch.testing.assert_close(out.values[0][:, 1], attention.value(embedded)[..., 8:])
    torch.testing.assert_close(out.pooled, model.pooler(out.hidden_states[-1]))


def test_initialization_is_that_of_bert():
    model = text_classifier(hidden_size=64)
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.25)
        if isinstance(module, nn.Linear):
            assert not module.bias.any()


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'num_attention_heads': 3}, 'num_attention_heads=3 must divide hidden_size=16'),
        ({'pooling': 'max'}, "pooling='max' must be 'cls' or 'mean'"),
        ({'activation': 'tanh'}, "activation='tanh' must be 'gelu' or 'relu'"),
    ],
)
def test_wrong_arguments_are_named(settings, message):
    with pytest.raises(UsageError, match=message):
        SurgeBert(**{**SIZES, **settings})


def test_a_text_longer_than_the_positions_is_an_error():
    with pytest.raises(UsageError, match='13 tokens is longer than max_position_embeddings=12'):
        SurgeBert(**SIZES)(text_batch(length=13))


@pytest.mark.parametrize('name', ['input_ids', 'token_type_ids', 'attention_mask'])
def test_a_missing_input_is_named(name):
    inputs = text_batch()
    del inputs[name]
    with pytest.raises(UsageError, match=f'inputs of SurgeBert lack {name}; they have .*, '):
        SurgeBert(**SIZES)(inputs)
