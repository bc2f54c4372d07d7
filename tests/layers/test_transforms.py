"""torch.func, is_grads_batched and torch.fx over binary layers; expected are plain loops over autograd."""

import pytest
import torch
from helpers.formula import SCHEDULED
from torch import nn
from torch.func import functional_call, grad, hessian, jacrev, jvp, stack_module_state, vmap
from torchvision.models.feature_extraction import create_feature_extractor

from surge_mm import RPReLU, SurgeConv2d, SurgeLinear

COMPENSATORS = [
    None,
    {'scale': 0.3},
    {'eta': 0.5},
    {'eta': 0.5, 'preserve_norm': True},
    {'eta': 0.5, 'tied': True},
    {'eta': 0.5, 'init': 'kaiming'},
]
BINARIZERS = [
    *({'activation': {'type': name}} for name in ('STESign', 'RSign', 'EDE', 'ReSTE')),
    *(
        {'weight': {'type': name}}
        for name in ('Real', 'Sign', 'XNOR', 'ReAct', 'Libra', 'ReCU', 'AdaBin')
    ),
]


def network(seed=0, **settings):
    torch.manual_seed(seed)
    model = nn.Sequential(
        SurgeConv2d(3, 4, 3, padding=(1, 2), pad_value=1, **settings),
        RPReLU(4),
        SurgeConv2d(4, 4, 2, groups=2, **settings),
        nn.Flatten(),
        SurgeLinear(4 * 4 * 6, 2, **settings),
    ).double()
    for layer in model:
        for binarizer in (getattr(layer, 'activation', 0), getattr(layer, 'weight_binarizer', 0)):
            if type(binarizer).__name__ in SCHEDULED:
                binarizer.follow(0.3)
    return model


@pytest.fixture
def x():
    torch.manual_seed(1)
    return torch.randn(5, 3, 5, 5, dtype=torch.float64)


def loss_of(model, parameters, x):
    return functional_call(model, parameters, (x,)).square().sum()


def autograd_of(model, x):
    """Return the gradients of autograd by name."""
    parameters = dict(model.named_parameters())
    gradients = torch.autograd.grad(model(x).square().sum(), [*parameters.values()])
    return dict(zip(parameters, gradients, strict=True))


def assert_equal_by_name(got, expected):
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=1e-9, atol=1e-9, msg=name)


SETTINGS = [*({'compensator': c} for c in COMPENSATORS), *BINARIZERS]
BFLOAT16 = {'compensator': {'eta': 0.5, 'dtype': 'bfloat16'}}


@pytest.mark.parametrize('settings', [*SETTINGS, BFLOAT16], ids=str)
def test_grad_is_that_of_autograd(settings, x):
    model = network(**settings)
    got = grad(lambda p: loss_of(model, p, x))(dict(model.named_parameters()))
    assert_equal_by_name(got, autograd_of(model, x))


@pytest.mark.parametrize('settings', SETTINGS, ids=str)
def test_gradients_per_sample_are_those_of_batches_of_one(settings, x):
    model = network(**settings)
    one = grad(lambda p, sample: loss_of(model, p, sample[None]))
    got = vmap(one, in_dims=(None, 0))(dict(model.named_parameters()), x)
    each = [autograd_of(model, sample[None]) for sample in x]
    assert_equal_by_name(got, {name: torch.stack([g[name] for g in each]) for name in each[0]})


@pytest.mark.parametrize('settings', SETTINGS, ids=str)
def test_an_ensemble_has_the_gradients_of_its_members(settings, x):
    models = [network(seed, **settings) for seed in range(3)]
    for i, model in enumerate(models):
        for layer in model:
            if getattr(layer, 'ags_warmup', None) is not None:
                layer.ags_warmup.fill_(i / 2)  # each member has a scale factor of its own
    parameters, buffers = stack_module_state(models)

    def loss(p, b):
        return functional_call(models[0], (p, b), (x,)).square().sum()

    each = [autograd_of(model, x) for model in models]
    expected = {name: torch.stack([g[name] for g in each]) for name in each[0]}
    assert_equal_by_name(vmap(grad(loss))(parameters, buffers), expected)
    assert_equal_by_name(grad(lambda p: vmap(loss)(p, buffers).sum())(parameters), expected)


@pytest.mark.parametrize('settings', SETTINGS, ids=str)
def test_a_batch_of_output_gradients_gives_the_gradients_of_each(settings, x):
    model = network(**settings)
    x.requires_grad_()
    leaves = [x, *model.parameters()]
    y = model(x)
    g = torch.randn(3, *y.shape, dtype=y.dtype)
    expected = [torch.autograd.grad(y, leaves, one, retain_graph=True) for one in g]
    got = torch.autograd.grad(y, leaves, g, is_grads_batched=True)
    for batched, *each in zip(got, *expected, strict=True):
        torch.testing.assert_close(batched, torch.stack(each), rtol=1e-9, atol=1e-9)


def test_jacrev_has_the_gradient_of_each_output(x):
    model = network(compensator={'eta': 0.5})
    x.requires_grad_()
    y = model(x).flatten()
    expected = torch.stack([torch.autograd.grad(v, x, retain_graph=True)[0] for v in y])
    torch.testing.assert_close(jacrev(lambda x: model(x).flatten())(x.detach()), expected)


def test_a_batch_of_output_gradients_of_more_than_a_chunk():
    torch.manual_seed(0)
    layer = SurgeConv2d(3, 1, 1, compensator={'eta': 0.5})
    x = torch.randn(2, 3, 512, 512).to(memory_format=torch.channels_last).requires_grad_()
    y = layer(x)
    g = torch.randn(2, *y.shape)
    expected = [torch.autograd.grad(y, x, one, retain_graph=True)[0] for one in g]
    (got,) = torch.autograd.grad(y, x, g, is_grads_batched=True)
    torch.testing.assert_close(got, torch.stack(expected))


def test_statistics_are_those_of_the_last_ordinary_step(x):
    model = network(compensator={'eta': 0.5})
    model(x).square().sum().backward()
    expected = [layer.ags_statistics.clone() for layer in (model[0], model[2], model[4])]
    grad(lambda p: loss_of(model, p, x[:2]))(dict(model.named_parameters()))
    for layer, before in zip((model[0], model[2], model[4]), expected, strict=True):
        assert before[0] > 0 and torch.equal(layer.ags_statistics, before)


def test_a_warning_of_unsigned_inputs_waits_for_a_pass_without_transform(x, caplog):
    model = network()
    model[0].warn_as = 'first'
    vmap(model)(x.abs()[:, None])
    assert model[0].warn_as == 'first'


@pytest.mark.parametrize('training', [True, False])
def test_forward_mode_is_rejected_by_name(training, x):
    model = network().train(training)
    with pytest.raises(NotImplementedError, match='torch.func.jvp.* not supported'):
        jvp(model, (x,), (x,))
    with pytest.raises(NotImplementedError, match='torch.func.jvp.* not supported'):
        hessian(lambda x: model(x).sum())(x)
    with (
        torch.no_grad(),
        pytest.raises(NotImplementedError, match='torch.func.jvp.* not supported'),
    ):
        jvp(model, (x,), (x,))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, x)
        with pytest.raises(NotImplementedError, match='torch.func.jvp.* not supported'):
            model(dual)


def test_second_derivatives_are_rejected_under_transforms(x):
    model = network()

    def loss(x):
        return model(x).square().sum()

    for second in (jacrev(jacrev(loss)), grad(lambda x: grad(loss)(x).square().sum())):
        with pytest.raises(RuntimeError, match='differentiate twice'):
            second(x)


def test_sync_is_rejected_under_transforms(x):
    model = nn.Sequential(SurgeConv2d(3, 4, 3)).double()
    model[0].scale = type(model[0].scale)(0.1, sync=True)
    with pytest.raises(NotImplementedError, match='sync=True'):
        grad(lambda x: model(x).sum())(x)


def test_a_symbolic_trace_trains_as_the_model_does(x):
    model = network(compensator={'eta': 0.5})
    expected = autograd_of(model, x)
    traced = torch.fx.symbolic_trace(model)
    assert [n.target for n in traced.graph.nodes if n.op == 'call_module'][0] == '0'
    assert_equal_by_name(autograd_of(traced, x), expected)
    features = create_feature_extractor(model, ['2'])
    torch.testing.assert_close(features(x)['2'], model[:3](x))


def test_a_symbolic_trace_of_a_layer_alone_says_what_to_trace():
    with pytest.raises(ValueError, match='nn.Sequential'):
        torch.fx.symbolic_trace(SurgeConv2d(3, 4, 3))
