from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS

SCHEDULES = Path(__file__).parents[2] / 'configs' / '_base_' / 'schedules'


@pytest.mark.parametrize('batches', [1, 9, 10, 19, 49, 200])
def test_a_warm_up_of_a_tenth_of_an_epoch_reaches_the_learning_rate(batches):
    cfg = Config.fromfile(SCHEDULES / 'bert-mini_1e.py')
    model = torch.nn.Linear(1, 1)
    wrapper = build_optim_wrapper(model, dict(optimizer=dict(type='SGD', lr=1.0)))
    schedulers = [
        PARAM_SCHEDULERS.build(
            dict(one), default_args=dict(optimizer=wrapper, epoch_length=batches)
        )
        for one in cfg.param_scheduler
    ]
    rates = []
    for _ in range(batches):
        rates.append(wrapper.get_lr()['lr'][0])
        for scheduler in schedulers:
            scheduler.step()
    warm_up = max(int(0.1 * batches), 2)  # steps from 0.001 to 1
    first, last = int(0.1 * batches), batches - 1  # of the decay from 1 to 0
    expected = [
        min(0.001 + 0.999 * step / (warm_up - 1), 1)
        * (1 - max(step - first, 0) / max(last - first, 1))
        for step in range(batches)
    ]
    assert rates == pytest.approx(expected, abs=1e-9)
    assert batches == 1 or max(rates) > 0.8
