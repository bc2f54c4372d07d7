"""Training in bfloat16 on a CPU."""

import copy

import torch
from helpers.tiny_run import BATCHES, Classifier, differences, state, stop_and_resume
from mmengine.optim import build_optim_wrapper

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


def test_a_resumed_run_ends_with_the_same_bits(tmp_path):
    whole, resumed = (
        state(file)
        for file in stop_and_resume(
            tmp_path, [BATCHES * 2 + 1], optim_wrapper=WRAPPER, accumulate=4, ema=True
        )
    )
    assert not differences(whole, resumed)
    tiny = [
        state(file) for file in stop_and_resume(tmp_path / 'float32', [], accumulate=4, ema=True)
    ]
    assert differences(whole, tiny[0])  # the precision makes a difference
