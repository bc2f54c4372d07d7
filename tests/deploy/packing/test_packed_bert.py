"""Packed classifiers of texts equal the trained ones to the bit."""

import copy

import pytest
import torch
from helpers.text_models import BIBERT, BIT, SIZES, labeled, text_batch, text_classifier
from helpers.tools import run_tool
from mmengine.config import Config

from surge_mm.deploy import load_packed, pack, save_packed
from surge_mm.deploy.onnx.layers import exported
from surge_mm.deploy.packing.packed_embedding import PackedEmbedding
from surge_mm.layers import BinaryEmbedding
from surge_mm.utils.errors import UsageError

SETTINGS = pytest.mark.parametrize(
    'settings',
    [
        {},
        BIBERT,
        BIT,
        {**BIT, 'embedding_weight': {'type': 'BiT'}, 'pooling': 'mean'},
        {**BIT, 'linear_cfg': {**BIT['linear_cfg'], 'weight': {'type': 'AdaBin'}}},
    ],
    ids=['default', 'BiBERT', 'BiT', 'one scale', 'AdaBin'],
)


@torch.enable_grad()
def trained(**settings):
    """Return a classifier after a few steps, in evaluation mode."""
    model = text_classifier(**settings)
    for module in model.modules():
        if hasattr(module, 'weight_binarizer') and hasattr(module.weight_binarizer, 'follow'):
            module.weight_binarizer.follow(0.5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        model(text_batch(), labeled(0, 1, 0, 1), mode='loss')['loss'].backward()
        optimizer.step()
    return model.eval()


@SETTINGS
@torch.no_grad()
def test_packed_equals_trained_to_the_bit(settings):
    model, inputs = trained(**settings), text_batch(seed=1, padding=2)
    before = model.bert(inputs, output_hidden_states=True)
    expected = model(inputs)
    packed = pack(model)
    assert not packed.packing.kept and len(packed.packing.packed) >= 12
    after = packed.bert(inputs, output_hidden_states=True)
    for ours, theirs in zip(after.hidden_states, before.hidden_states, strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(packed(inputs), expected)


@torch.no_grad()
def test_a_packed_file_has_the_logits_of_the_checkpoint(tmp_path):
    torch.manual_seed(0)
    backbone = {'type': 'surge_mm.SurgeBert', 'vocab_size': 3000, 'hidden_size': 64}
    backbone |= {'num_hidden_layers': 2, 'num_attention_heads': 2, 'intermediate_size': 128}
    backbone |= {'max_position_embeddings': 8, **BIT}
    cfg = Config(
        {
            'default_scope': 'mmpretrain',
            'model': {
                'type': 'surge_mm.TextClassifier',
                'backbone': backbone,
                'num_classes': 2,
                'data_preprocessor': {'type': 'surge_mm.TextDataPreprocessor'},
            },
        }
    )
    model = text_classifier(**{k: v for k, v in backbone.items() if k != 'type'})
    inputs = text_batch()
    model(inputs)
    expected = model.eval()(inputs)
    latent = sum(p.nbytes for name, p in model.named_parameters() if 'aux_weight' not in name)
    save_packed(pack(model), tmp_path / 'text.safetensors', cfg)
    loaded = load_packed(tmp_path / 'text.safetensors')
    assert torch.equal(loaded(inputs), expected)
    assert latent / (tmp_path / 'text.safetensors').stat().st_size > 12


def test_the_tool_exports_a_classifier_of_texts_after_a_trial_run(tmp_path):
    model = trained(**BIT)
    backbone = {'type': 'surge_mm.SurgeBert', 'hidden_dropout_prob': 0.0, **SIZES, **BIT}
    classifier = {
        'type': 'surge_mm.TextClassifier',
        'backbone': backbone,
        'num_classes': 2,
        'data_preprocessor': {'type': 'surge_mm.TextDataPreprocessor'},
    }
    Config({'default_scope': 'mmpretrain', 'model': classifier}).dump(tmp_path / 'text.py')
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'epoch_1.pth')
    words = ('text.py', 'epoch_1.pth', 'text.safetensors')
    done = run_tool('export', *words, folder=tmp_path)
    said = 'run on a text of 8 tokens: its outputs equal those of the checkpoint to the bit'
    assert done.returncode == 0 and said in done.stdout, done.stdout + done.stderr
    with torch.no_grad():
        expected = model(text_batch())
        assert torch.equal(load_packed(tmp_path / 'text.safetensors')(text_batch()), expected)


def test_the_elastic_binarizer_of_two_bits_is_refused_by_name():
    linear = {**BIT['linear_cfg'], 'activation': {'type': 'ElasticSign', 'bits': 2}}
    model = text_classifier(**{**BIT, 'linear_cfg': linear})
    with pytest.raises(
        UsageError, match=r'layer.0.*: its activation ElasticSign\(bits=2\) has four'
    ):
        pack(model)
    attention = text_classifier(**BIT, attention_bits=2)
    with pytest.raises(UsageError, match=r'query_binarizer: its activation ElasticSign\(bits=2\)'):
        pack(attention)


def test_the_onnx_export_refuses_a_learned_scale_by_name():
    with pytest.raises(
        UsageError, match=r'query: its activation ElasticSign\(bits=1\) is not the sign'
    ):
        exported(text_classifier(**BIT), [])


@pytest.mark.parametrize('weight', ['ScaledSign', 'BiBERT', 'BiT', 'AdaBin', 'Sign'])
def test_a_binary_embedding_is_its_binary_table_forward_and_backward(weight):
    torch.manual_seed(0)
    layer = BinaryEmbedding(9, 12, {'type': weight}).double()
    if hasattr(layer.weight_binarizer, 'follow'):
        layer.weight_binarizer.follow(0.3)
    ids = torch.tensor([[3, 3], [0, 8]])
    out = layer(ids)
    table = layer.weight_binarizer(layer.weight.detach())
    assert torch.equal(out, table[ids])
    g = torch.randn_like(out)
    out.backward(g)
    grad_table = torch.zeros_like(table)
    grad_table[3], grad_table[0], grad_table[8] = g[0].sum(0), g[1, 0], g[1, 1]
    expected = layer.weight_binarizer.gradient(layer.weight.detach(), grad_table)
    torch.testing.assert_close(layer.weight.grad, expected)


def test_a_copy_and_a_state_dict_of_a_packed_model_give_the_same_logits():
    model, inputs = trained(**BIT), text_batch()
    other = pack(copy.deepcopy(model).train().eval())
    with torch.no_grad():
        expected = model(inputs)
        other.load_state_dict(pack(copy.deepcopy(model)).state_dict())
        assert torch.equal(other(inputs), expected)
        assert torch.equal(copy.deepcopy(other)(inputs), expected)


@pytest.mark.parametrize('ids', [[1, -1], [1, 10]])
def test_an_index_out_of_range_is_an_error_in_a_packed_embedding_too(ids):
    layer = BinaryEmbedding(10, 16, weight={'type': 'BiT'})
    for module in (layer, PackedEmbedding(layer)):
        with pytest.raises(IndexError):
            module(torch.tensor(ids))


def test_packed_equals_trained_to_the_bit_also_outside_of_no_grad():
    model, inputs = trained(**BIT), text_batch(seed=1, padding=2)
    with torch.no_grad():
        expected = model(inputs)
    found = pack(model)(inputs)
    assert torch.is_grad_enabled() and torch.equal(found, expected)
