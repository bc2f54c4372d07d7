"""The report of the gradients, in a training, against values written out in float64."""

import json
from copy import deepcopy

import pytest
import torch
from helpers.gradient_net import (
    IMAGES,
    GradientNet,
    GradientPictures,
    assert_equal,
    batch,
    expected_report,
)
from helpers.hook_runs import hook_runner
from helpers.tiny_run import differences, state, tiny_runner
from mmengine.model import BaseModel
from torch import nn
from torch.utils.checkpoint import checkpoint

from surge_mm import GradientReportHook, SurgeLinear
from surge_mm.analysis.gradients.report import measure_gradients

HOOK = 'surge_mm.GradientReportHook'


def adaptive(eta):
    return lambda norm_b, norm_a: eta * norm_b / (norm_a + 1e-8)


def fixed(value):
    return lambda norm_b, norm_a: value


def runner(folder, model, hook, **settings):
    settings = {'train_cfg': {'by_epoch': True, 'max_epochs': 2}, **settings}
    data = {'dataset': GradientPictures(), 'batch_size': IMAGES}
    return hook_runner(folder, model, hook, lr=0.1, **data, **settings)


def content(folder):
    (path,) = folder.glob('*/vis_data/gradients.json')
    return json.loads(path.read_text())


@pytest.mark.parametrize(
    'first, head, lam_of',
    [
        ({'eta': 0.3}, {'eta': 0.3}, {'first': adaptive(0.3), 'head': adaptive(0.3)}),
        ({'scale': 0.6}, {'eta': 0.3}, {'first': fixed(0.6), 'head': adaptive(0.3)}),
        (None, {'scale': 0.6}, {'first': None, 'head': fixed(0.6)}),
    ],
    ids=['adaptive', 'fixed and adaptive', 'plain and fixed'],
)
def test_every_call_has_the_values_of_the_formulas(tmp_path, first, head, lam_of):
    net = GradientNet(first, head)
    wanted = expected_report(net, lam_of, probe=0.3)
    runner(tmp_path, net, {'type': HOOK, 'interval': 3, 'probe': 0.3}).train()
    found = content(tmp_path)
    assert found['probe'] == 0.3
    assert [report['iter'] for report in found['reports']] == [0, 3]
    assert_equal(found['reports'][0]['calls'], wanted)
    assert any(p['true'] != 0 for row in wanted for p in row['probe'].values())


def test_an_input_without_a_gradient_has_no_norm_and_no_growth(tmp_path):
    net = GradientNet({'scale': 0.6}, {'eta': 0.3})
    net.stem.requires_grad_(False)
    wanted = expected_report(net, {'first': fixed(0.6), 'head': adaptive(0.3)})
    wanted[0]['grad_norm'] = wanted[0]['growth'] = None
    runner(tmp_path, net, {'type': HOOK}).train()
    assert_equal(content(tmp_path)['reports'][0]['calls'], wanted)


@pytest.mark.parametrize('head', ['EDE', 'ElasticSign'])
def test_training_with_the_hook_is_that_without_it_to_the_bit(tmp_path, head):
    """With dropout, batch norms, schedules, learned scales, all random generators, and a logger that observes."""
    hooks = {'with': [{'type': HOOK, 'interval': 2, 'probe': 0.1}], 'without': []}
    for name, more in hooks.items():
        tiny_runner(tmp_path / name, length=1, head=head, hooks=more).train()
    assert len(content(tmp_path / 'with')['reports']) == 3
    files = [state(tmp_path / name / 'epoch_1.pth') for name in hooks]
    assert differences(*files) == []
    logs = [next((tmp_path / name).glob('*/vis_data/scalars.json')) for name in hooks]
    lines = [[json.loads(line) for line in log.read_text().splitlines()] for log in logs]
    for one, other in zip(*lines, strict=True):
        assert 'ags_cos_mean' in one
        assert {k: v for k, v in one.items() if 'time' not in k} == {
            k: v for k, v in other.items() if 'time' not in k
        }


def test_gradients_and_buffers_stay_as_they_are():
    net = GradientNet({'eta': 0.3}, {'eta': 0.3})
    net.stem.weight.grad = torch.ones_like(net.stem.weight)
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    measure_gradients(net, batch(), probe=0.1)
    assert (net.stem.weight.grad == 1).all() and net.head.weight.grad is None
    assert all(torch.equal(buffer, before[name]) for name, buffer in net.named_buffers())
    assert not net.head.observe and net.head.scale.eta == 0.3


def elastic_net():
    net = GradientNet()
    settings = {'activation': {'type': 'ElasticSign'}, 'compensator': {'eta': 0.3}}
    net.first, net.head = SurgeLinear(4, 4, **settings), SurgeLinear(4, 3, **settings)
    return net.double()


def test_a_scale_that_has_not_started_is_started_by_the_next_step_and_not_by_the_report():
    net, (images, labels) = elastic_net(), batch()
    started, wanted = deepcopy(net), deepcopy(net)
    started(images, labels)
    rows = [measure_gradients(model, [images, labels], probe=0.1) for model in (net, started)]
    assert rows[0] == rows[1]  # its halves and its probe have the scales of the whole batch
    for model in (net, wanted):
        model(2 * images, labels)
    assert differences(net.state_dict(), wanted.state_dict()) == []
    assert net.first.activation_scale_bits == 1
    assert net.first.activation_scale != started.first.activation_scale


def test_checkpointed_layers_are_reported_once():
    def again(layer, x):
        return checkpoint(layer, x, use_reentrant=False)

    plain, checkpointed = (GradientNet({'eta': 0.3}, {'eta': 0.3}, run) for run in (None, again))
    one, other = (measure_gradients(net, batch(), 0.1) for net in (plain, checkpointed))
    assert one == other


def test_a_batch_of_one_image_has_no_noise():
    net = GradientNet({'eta': 0.3}, {'eta': 0.3})
    rows = measure_gradients(net, [field[:1] for field in batch()])
    assert [row['noise'] for row in rows] == [None] * 3 and rows[0]['cos'] is not None


class Dicts(BaseModel):
    """A model whose batch is a dict of lists, as those of detectors."""

    def __init__(self):
        super().__init__()
        self.net = GradientNet({'eta': 0.3}, {'eta': 0.3})

    def forward(self, inputs, data_samples, mode='loss'):
        return self.net(torch.stack(inputs), torch.stack(data_samples))


def test_batches_of_lists_have_the_noise_of_those_of_tensors():
    images, labels = batch()
    rows = measure_gradients(Dicts(), {'inputs': list(images), 'data_samples': list(labels)})
    wanted = expected_report(Dicts().net, {'first': adaptive(0.3), 'head': adaptive(0.3)})
    assert [row['noise'] for row in rows] == pytest.approx([row['noise'] for row in wanted])


class Plain(GradientNet):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4).double()


def test_a_model_without_a_branch_is_an_error_before_the_first_step(tmp_path):
    run = runner(tmp_path, Plain(), {'type': HOOK}, cfg={'model': {'type': 'GradientNet'}})
    before = [p.clone() for p in run.model.parameters()]
    with pytest.raises(ValueError, match=r'no layer with a branch. Add compensator=dict\(eta'):
        run.train()
    assert all(torch.equal(p, q) for p, q in zip(run.model.parameters(), before, strict=True))
    assert not list(tmp_path.glob('*/vis_data/gradients.json'))


def test_a_probe_of_a_compiled_model_is_an_error_before_the_first_step(tmp_path):
    run = runner(tmp_path, GradientNet({'eta': 0.3}), {'type': HOOK}, cfg={'compile': True})
    message = r'probe=0.1.*compile=True\). Leave out probe, or compile'
    with pytest.raises(ValueError, match=message):  # train() would spend seconds on the compiler
        GradientReportHook(probe=0.1).before_train(run)
    GradientReportHook().before_train(run)


def test_a_model_in_evaluation_mode_is_an_error():
    net = GradientNet({'eta': 0.3}).eval()
    with pytest.raises(ValueError, match=r'in evaluation mode.*Call model.train\(\) first'):
        measure_gradients(net, batch(), probe=0.1)


def test_a_step_that_cannot_be_measured_is_an_error():
    def hide(layer, x):
        return checkpoint(layer, x, use_reentrant=True)

    with pytest.raises(ValueError, match=r'first is hidden .* use_reentrant=True'):
        measure_gradients(GradientNet({'eta': 0.3}, run=hide), batch())
    frozen = GradientNet({'eta': 0.3})
    frozen.requires_grad_(False)
    frozen.run = lambda layer, x: layer(x) * torch.ones(4, requires_grad=True)
    frozen.head = nn.Linear(4, 3).double()
    whole = GradientNet({'eta': 0.3})
    whole.requires_grad_(False)
    for net in (frozen, whole):
        with pytest.raises(ValueError, match='no gradient reaches a binary layer. Unfreeze one'):
            measure_gradients(net, batch())


@pytest.mark.parametrize(
    'kwargs, message',
    [
        ({'interval': 0}, 'interval=0 must be a whole number of at least 1'),
        ({'probe': 0}, 'probe=0 must be a finite number above 0'),
        ({'probe': float('nan')}, 'probe=nan must be'),
        ({'probe': 'yes'}, "probe='yes' must be"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        GradientReportHook(**kwargs)
