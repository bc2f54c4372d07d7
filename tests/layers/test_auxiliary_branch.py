"""How auxiliary weights start, and that they stay what training made of them: state dicts, copies, averages."""

import copy

import pytest
import torch
from helpers.small_network import gradients, loss_of, network
from mmengine.model import ExponentialMovingAverage
from mmengine.runner.checkpoint import load_state_dict
from torch import nn

from surge_mm.layers import SurgeConv2d, SurgeLinear, compensated_layers
from surge_mm.ops import Statistics


@pytest.fixture
def x():
    return torch.randn(4, 3, 8, 8)


def step(model, x):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.zero_grad()
    loss_of(model, x).backward()
    optimizer.step()
    optimizer.zero_grad()


def test_auxiliary_weights_start_as_a_copy():
    for _, layer in compensated_layers(network({'eta': 0.1})):
        assert torch.equal(layer.aux_weight, layer.weight)


@pytest.mark.parametrize('fused', [False, True])
def test_auxiliary_weights_are_no_copy_after_the_first_step(x, fused):
    model = network({'eta': 0.1})
    before = [layer.aux_weight.clone() for _, layer in compensated_layers(model)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=fused)
    loss_of(model, x).backward()
    optimizer.step()
    optimizer.zero_grad()
    trained = [layer.aux_weight.clone() for _, layer in compensated_layers(model)]
    model.train().state_dict()
    for (_, layer), own, first in zip(compensated_layers(model), trained, before, strict=True):
        assert torch.equal(layer.aux_weight, own) and not torch.equal(own, first)
        assert not torch.equal(own, layer.weight)


def test_train_copies_weights_that_were_initialized_after_construction(x):
    model = network({'eta': 0.1})
    model.eval()(x)  # an evaluation with gradients before
    for module in model:
        if isinstance(module, (SurgeConv2d, SurgeLinear)):
            nn.init.normal_(module.weight)
    model.train()
    for _, layer in compensated_layers(model):
        assert torch.equal(layer.aux_weight, layer.weight)


def test_train_copies_nothing_once_the_branch_has_trained(x):
    model = network({'eta': 0.1})
    step(model, x)
    trained = model[0].aux_weight.clone()
    model.eval().train()
    model.state_dict()
    assert torch.equal(model[0].aux_weight, trained)
    assert not torch.equal(trained, model[0].weight)


def test_train_copies_nothing_to_a_branch_that_no_optimizer_steps(x):
    model = network({'eta': 0.1})
    start = model[0].aux_weight.clone()
    optimizer = torch.optim.SGD([model[0].weight], lr=0.1)
    loss_of(model, x).backward()
    optimizer.step()
    model.train()
    assert torch.equal(model[0].aux_weight, start)


def test_reset_parameters_restarts_a_trained_layer(x):
    model = network({'eta': 0.1})
    step(model, x)
    model[0].reset_parameters()
    assert torch.equal(model[0].aux_weight, model[0].weight)
    assert model[0].ags_statistics.abs().sum() == 0


@pytest.mark.parametrize('assign', [False, True])
@pytest.mark.parametrize('branch', [False, True])
def test_a_layer_made_on_the_meta_device_is_whole_after_loading(assign, branch, x):
    source = network({'eta': 0.1} if branch else None)
    with torch.device('meta'):
        model = network({'eta': 0.1})
    if not assign:
        model = model.to_empty(device=x.device)
    model.load_state_dict(source.state_dict(), assign=assign)
    expected = network({'eta': 0.1})
    expected.load_state_dict(source.state_dict())
    for m in (model, expected):
        loss_of(m, x).backward()
    for name, grad in gradients(expected).items():
        torch.testing.assert_close(gradients(model)[name], grad)
    assert model[0].ags_warmup == 1


def test_a_functional_call_trains_with_the_branch_of_the_parameters(x):
    """The tensors of the call are others than the layer's own, as under FSDP."""
    model = network({'eta': 0.1})
    loss_of(model, x).backward()
    expected = model[0].ags_statistics.clone()
    others = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    torch.func.functional_call(model, others, (x,)).square().mean().backward()
    torch.testing.assert_close(model[0].ags_statistics, expected)
    assert torch.equal(model[0].aux_weight, model[0].weight)


def test_a_model_saved_before_training_holds_the_copy():
    model = network({'eta': 0.1})
    nn.init.normal_(model[0].weight)
    state = model.state_dict()
    assert torch.equal(state['0.aux_weight'], state['0.weight'])


def test_auxiliary_weights_of_a_state_dict_are_kept(x):
    trained = network({'eta': 0.1})
    with torch.no_grad():
        trained[0].aux_weight.add_(1)
    fresh = network({'eta': 0.1}, seed=1)
    fresh.load_state_dict(trained.state_dict())
    fresh.train()
    assert torch.equal(fresh[0].aux_weight, trained[0].aux_weight)


def test_state_dict_without_branches_starts_them_afresh(x):
    plain, compensated = network(None), network({'eta': 0.1}, seed=1)
    step(compensated, x)
    result = compensated.load_state_dict(plain.state_dict())
    assert not result.missing_keys
    assert torch.equal(plain.eval()(x), compensated.eval()(x))
    assert torch.equal(compensated[0].aux_weight, plain[0].weight)


def test_state_dict_with_branches_loads_into_a_plain_model(x):
    plain, compensated = network(None), network({'eta': 0.1}, seed=1)
    result = plain.load_state_dict(compensated.state_dict())
    assert not result.unexpected_keys
    assert torch.equal(plain.eval()(x), compensated.eval()(x))


@pytest.mark.parametrize('source, target', [(None, {'eta': 0.1}), ({'eta': 0.1}, None)])
def test_mmengine_loads_either_into_the_other_without_a_warning(source, target, capsys):
    load_state_dict(network(target), network(source).state_dict(), strict=True)
    assert 'aux_weight' not in capsys.readouterr().out


def test_statistics_are_not_in_the_state_dict():
    assert not [key for key in network({'eta': 0.1}).state_dict() if 'ags' in key]


def test_an_average_of_weights_keeps_its_own_auxiliary_weights(x):
    """EMA copies the model before its first step, and the copy itself never trains."""
    model = network({'eta': 0.1})
    average = ExponentialMovingAverage(model, momentum=0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    expected = None
    for _ in range(3):
        optimizer.zero_grad()
        loss_of(model, x).backward()
        optimizer.step()
        average.update_parameters(model)
        now = model[0].aux_weight.detach()
        expected = now.clone() if expected is None else 0.5 * expected + 0.5 * now
    saved = average.state_dict()['module.0.aux_weight']
    torch.testing.assert_close(saved, expected)
    assert not torch.equal(saved, average.module[0].weight)
    average.train()  # as torch.optim.swa_utils.update_bn does
    torch.testing.assert_close(average.module[0].aux_weight, expected)


def test_layers_of_one_shape_draw_apart_and_the_same_whenever_their_weights_are(x):
    torch.manual_seed(0)
    options = {'compensator': {'eta': 0.1, 'init': 'kaiming'}}
    twins = nn.Sequential(SurgeConv2d(8, 8, 3, **options), SurgeConv2d(8, 8, 3, **options))
    weights = {f'{i}.weight': torch.randn(8, 8, 3, 3) for i in range(2)}
    weights |= {f'{i}.bias': torch.zeros(8) for i in range(2)}
    drawn = []
    for seed in (1, 2):  # of ranks that differ
        torch.manual_seed(seed)
        twins.load_state_dict(weights)
        drawn.append([layer.aux_weight.detach().clone() for layer in twins])
    assert not torch.equal(drawn[0][0], drawn[0][1])
    assert torch.equal(drawn[0][0], drawn[1][0])


def test_draws_do_not_follow_the_default_device():
    settings = {'compensator': {'eta': 0.1, 'init': 'kaiming'}, 'weight': {'type': 'ReCU'}}
    torch.manual_seed(0)
    expected = SurgeConv2d(8, 8, 3, device='cpu', **settings)
    torch.manual_seed(0)
    with torch.device('meta'):  # a generator of the CPU cannot draw there
        layer = SurgeConv2d(8, 8, 3, device='cpu', **settings)
    assert torch.equal(layer.aux_weight, expected.aux_weight)
    assert torch.equal(layer.weight_gain, expected.weight_gain)


class InPlaceData(torch.optim.Optimizer):
    """SGD that writes to the data of its parameters, which leaves no trace in their version."""

    def __init__(self, parameters, lr):
        super().__init__(parameters, {'lr': lr})

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group['params']:
                p.data.add_(p.grad, alpha=-group['lr'])


def test_an_optimizer_that_writes_to_the_data_trains_the_branch(x):
    model = network({'eta': 0.1})
    optimizer = InPlaceData(model.parameters(), lr=0.1)
    loss_of(model, x).backward()
    optimizer.step()
    optimizer.zero_grad()
    trained = model[0].aux_weight.clone()
    model.eval().train().state_dict()
    assert torch.equal(model[0].aux_weight, trained)
    assert not torch.equal(trained, model[0].weight)


def test_train_and_state_dict_may_be_called_between_forward_and_backward(x):
    model = network({'eta': 0.1})
    loss = loss_of(model, x)
    model.train().state_dict()
    loss.backward()
    expected = network({'eta': 0.1})
    loss_of(expected, x).backward()
    for name, grad in gradients(expected).items():
        assert torch.equal(gradients(model)[name], grad)


@pytest.mark.parametrize('write', ['in place', 'data'])
def test_auxiliary_weights_that_are_set_before_training_are_kept(write):
    model = network({'eta': 0.1})
    values = torch.randn_like(model[0].aux_weight)
    if write == 'data':
        model[0].aux_weight.data = values.clone()
    else:
        with torch.no_grad():
            model[0].aux_weight.copy_(values)
    nn.init.normal_(model[0].weight)
    model.train().state_dict()
    assert torch.equal(model[0].aux_weight, values)


def test_a_copy_of_an_untrained_model_starts_from_its_own_weights():
    model = copy.deepcopy(network({'eta': 0.1}))
    nn.init.normal_(model[0].weight)
    model.train()
    assert torch.equal(model[0].aux_weight, model[0].weight)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_statistics_of_a_narrow_model_count_and_hold_large_norms(dtype):
    layer = SurgeLinear(64, 8, compensator={'eta': 0.1}).to(dtype)
    nn.init.constant_(layer.ags_statistics, 0)
    for _ in range(300):
        layer(torch.full((2, 64), torch.inf, dtype=dtype)).sum().backward()
    assert Statistics(*layer.ags_statistics.tolist()).non_finite == 300
    assert layer.ags_statistics.dtype == layer.ags_warmup.dtype == torch.float32
    assert network({'eta': 0.1}).double()[0].ags_statistics.dtype == torch.float64


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_weights_that_are_initialized_after_a_cast_are_copied(dtype):
    model = network({'eta': 0.1}).to(dtype)
    nn.init.normal_(model[0].weight)
    model.train()
    assert torch.equal(model[0].aux_weight, model[0].weight)


def test_a_layer_made_in_inference_mode_can_be_initialized_and_saved_outside():
    with torch.inference_mode():
        layer = SurgeLinear(8, 4, compensator={'eta': 0.1})
    layer.weight.data = torch.randn(4, 8)
    assert layer.train().state_dict()['aux_weight'].shape == (4, 8)


def test_a_parameter_without_storage_is_no_copy():
    """As FSDP leaves it between two passes."""
    layer = SurgeLinear(8, 4, compensator={'eta': 0.1})
    layer.aux_weight.data.untyped_storage().resize_(0)
    layer.train()


def test_train_copies_nothing_in_a_model_that_is_trained_in_evaluation_mode(x):
    model = network({'eta': 0.1}).eval()
    start = model[0].aux_weight.clone()
    loss_of(model, x).backward()
    with torch.no_grad():
        model[0].weight.add_(1)  # a step of W_b alone
    model.zero_grad()
    model.train().state_dict()
    assert torch.equal(model[0].aux_weight, start)
