"""Attention of BERT against autograd of its formula in float64."""

import copy

import pytest
import torch
from helpers.formula import elastic, surrogate_sign

from surge_mm import SurgeBert
from surge_mm.utils.errors import UsageError

FEATURES, HEADS = 6, 2
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], dtype=torch.bool)


def attention(kind, bits=1):
    """Return the attention of a real layer, with scales and shifts as after training, in float64."""
    torch.manual_seed(0)
    model = SurgeBert(
        vocab_size=9,
        hidden_size=FEATURES,
        num_hidden_layers=1,
        num_attention_heads=HEADS,
        intermediate_size=8,
        attention=kind,
        attention_bits=bits,
        attention_probs_dropout_prob=0.0,
        linear_cfg=None,
    )
    module = model.encoder.layer[0].attention.self.double()
    with torch.no_grad():
        for name, p in module.named_parameters():
            if name.endswith('activation_shift'):
                p.normal_(std=0.3)
            if name.endswith('activation_scale'):
                p.fill_(0.45 if name.startswith('scores') else 0.5)
        for name, buffer in module.named_buffers():
            if name.endswith('activation_scale_bits'):
                buffer.fill_(bits)
    return module


def reference(module, x, kind, bits):
    """Compute the formula head after head."""
    q, k, v = (layer(x) for layer in (module.query, module.key, module.value))
    if kind == 'bi':
        q, k, v = (surrogate_sign(z, 'STESign') for z in (q, k, v))
    if kind == 'elastic':
        binarizers = (module.query_binarizer, module.key_binarizer, module.value_binarizer)
        q, k, v = (
            elastic(z + b.activation_shift, b.activation_scale, 'ElasticSign', bits)
            for z, b in zip((q, k, v), binarizers, strict=True)
        )
    d = FEATURES // HEADS
    padded = ~MASK[:, None, :].expand(-1, x.shape[1], -1)
    scores = [
        q[..., h * d : h * d + d] @ k[..., h * d : h * d + d].mT / d**0.5 for h in range(HEADS)
    ]
    # -inf has no gradient by clamping; any score below the window will do for the step
    scores = [s.masked_fill(padded, float('-inf') if kind != 'bi' else -9.0) for s in scores]
    weights = torch.stack(scores)
    if kind != 'bi':
        weights = weights.softmax(-1)
    if kind == 'bi':
        weights = surrogate_sign(weights, 'Step')
    if kind == 'elastic':
        alpha = module.scores_binarizer.activation_scale
        weights = elastic(weights, alpha, 'ElasticBinary', bits)
    return torch.cat([weights[h] @ v[..., h * d : h * d + d] for h in range(HEADS)], dim=-1)


@pytest.mark.parametrize(
    ('kind', 'bits'), [('real', 1), ('bi', 1), ('elastic', 1), ('elastic', 2)], ids=str
)
def test_value_and_every_gradient_are_those_of_the_formula(kind, bits):
    module = attention(kind, bits)
    naive, x = copy.deepcopy(module), torch.randn(2, 5, FEATURES, dtype=torch.float64)
    x_naive = x.clone().requires_grad_()
    expected = reference(naive, x_naive, kind, bits)
    g = torch.randn_like(expected)
    expected.backward(g)
    seen = []
    module.dropout.register_forward_hook(lambda *args: seen.append(args[2]))
    out, _ = module(x.requires_grad_(), MASK[:, None, None, :])
    out.backward(g)
    close = {'rtol': 1e-9, 'atol': 1e-9}
    torch.testing.assert_close(out, expected, **close)
    torch.testing.assert_close(x.grad, x_naive.grad, **close)
    for (name, p), q in zip(module.named_parameters(), naive.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, **close, msg=lambda m, name=name: f'{name}: {m}')
    with torch.no_grad():  # in whole numbers
        inferred, _ = module.eval()(x, MASK[:, None, None, :])
    torch.testing.assert_close(inferred, expected.detach(), **close)
    if kind != 'real':
        weights = seen[0]
        assert x.grad.abs().sum() > 0 and 0.1 < (weights[0] == 0).double().mean() < 0.9
        assert not weights[1, ..., 3:].any()


@pytest.mark.parametrize('kind', ['bi', 'elastic'])
def test_evaluation_of_frozen_weights_does_not_depend_on_the_grad_mode(kind):
    module = attention(kind).float().eval().requires_grad_(False)
    x, mask = torch.randn(2, 5, FEATURES), MASK[:, None, None, :]
    with torch.no_grad():
        expected, _ = module(x, mask)
    assert torch.equal(module(x, mask)[0], expected)
    assert module(x.clone().requires_grad_(), mask)[0].requires_grad


def test_attention_without_softmax_counts_scores_above_0_alone():
    module = attention('bi')
    q = torch.tensor([1.0, 1.0, 1.0]).view(1, 1, 1, 3)
    k = torch.tensor([[1.0, 1.0, -1.0], [-1.0, -1.0, 1.0], [1.0, 1.0, 1.0]]).view(1, 1, 3, 3)
    v = torch.eye(3).view(1, 1, 3, 3)
    mask = torch.tensor([True, True, False]).view(1, 1, 1, 3)
    from surge_mm.models.backbones.bert_attention import Projections

    out = module.eval().attend(Projections(q, k, v), mask)
    assert out.flatten().tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'attention_bits': 2}, "attention_bits=2 is for attention='elastic'"),
        (
            {'linear_cfg': None, 'ffn_activation': {'type': 'ElasticBinary'}},
            'linear_cfg=None builds real ones',
        ),
        ({'embedding_weight': {'type': 'ReCU'}}, 'learns a gain'),
        ({'embedding_weight': {'type': 'Real'}}, 'is real'),
    ],
)
def test_settings_without_an_effect_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        SurgeBert(9, 8, 1, 2, 8, **settings)
