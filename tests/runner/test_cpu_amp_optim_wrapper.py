"""Training in bfloat16 on a CPU."""

import copy

import pytest
import torch
from helpers.tiny_run import BATCHES, Classifier, differences, state, stop_and_resume, tiny_runner
from mmengine.optim import build_optim_wrapper
from torch._dynamo.utils import counters

from surge_mm.ops import gradient_scale

WRAPPER = 'surge_mm.CPUAmpOptimWrapper'


def test_a_step_is_that_of_autocast_to_bfloat16_without_loss_scaling():
    model = Classifier('ApproxSign', 'ScaledSign').train()
    batch = (torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 0]))
    by_hand = copy.deepcopy(model)
    dtypes = []
    model.conv.register_forward_hook(lambda module, args, out: dtypes.append(out.dtype))

    wrapper = build_optim_wrapper(
        model,
        {'type': WRAPPER, 'optimizer': {'type': 'SGD', 'lr': 0.1}, 'clip_grad': {'max_norm': 1}},
    )
    torch.manual_seed(1)
    model.train_step(batch, wrapper)

    torch.manual_seed(1)
    with torch.autocast('cpu', torch.bfloat16):
        loss = by_hand(*batch)['loss']
    loss.backward()
    torch.nn.utils.clip_grad_norm_(by_hand.parameters(), 1)
    torch.optim.SGD(by_hand.parameters(), 0.1).step()

    assert dtypes == [torch.bfloat16]
    for (name, got), expected in zip(model.named_parameters(), by_hand.parameters(), strict=True):
        assert got.dtype == torch.float32, name
        assert torch.equal(got, expected), name


@pytest.mark.parametrize(
    'device, has_units, message',
    [
        ('cpu', True, None),
        ('cpu', False, 'this CPU has neither AMX nor AVX512_BF16'),
        ('meta', True, 'the model is on meta'),
    ],
)
def test_where_it_brings_nothing_there_is_one_warning(monkeypatch, device, has_units, message):
    said = []
    module = 'surge_mm.runner.cpu_amp_optim_wrapper'
    monkeypatch.setattr(f'{module}.warn', said.append)
    monkeypatch.setattr(f'{module}.has_bfloat16_units', lambda: has_units)
    model = Classifier('ApproxSign', 'ScaledSign').to(device)
    wrapper = build_optim_wrapper(model, {'type': WRAPPER, 'optimizer': {'type': 'SGD', 'lr': 0.1}})
    for _ in range(2):
        with wrapper.optim_context(model):
            pass
    assert len(said) == (message is not None)
    assert message is None or message in said[0]


def test_a_resumed_run_ends_with_the_same_bits(tmp_path):
    settings = {'accumulate': 4, 'ema': True}
    files = stop_and_resume(tmp_path, [BATCHES * 2 + 1], optim_wrapper=WRAPPER, **settings)
    whole, resumed = map(state, files)
    assert not differences(whole, resumed)
    tiny_runner(tmp_path / 'float32', **settings).train()
    assert differences(whole, state(tmp_path / 'float32' / files[0].name))


def test_a_compiled_run_ends_with_the_same_bits(tmp_path, monkeypatch):
    # eager code would add a correction with one rounding, compiled code with two
    monkeypatch.setattr(gradient_scale, '_can_be_read', lambda lam, g: False)
    plain, compiled = (
        tiny_runner(tmp_path / name, length=1, optim_wrapper=WRAPPER) for name in ('a', 'b')
    )
    plain.train()
    compiled.cfg.compile = {'backend': 'aot_eager'}
    compiled.train()
    assert counters['stats']['unique_graphs'] > 0
    assert not differences(*(state(tmp_path / name / 'epoch_1.pth') for name in ('a', 'b')))
