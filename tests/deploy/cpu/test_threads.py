from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch

from surge_mm import SurgeConv2d
from surge_mm.deploy import PackedConv2d
from surge_mm.deploy.cpu import plan, threads


@torch.no_grad()
@pytest.mark.parametrize('team', ['openmp', 'python'])
@pytest.mark.parametrize('count', [2, 3, 7])
def test_any_number_of_threads_computes_the_same(team, count, monkeypatch):
    monkeypatch.setattr(torch, 'get_num_threads', lambda: count)
    monkeypatch.setattr(plan, 'WORTH_THREADS', 0)
    if team == 'python':
        run = threads._run_in_python_threads
        monkeypatch.setattr(plan, 'thread_team', lambda f: threads.Team(partial(run, f), 0))
    layer, x = SurgeConv2d(70, 24, 3, padding=1).eval(), torch.randn(2, 70, 9, 8)
    assert torch.equal(PackedConv2d(layer)(x), layer(x))


@torch.no_grad()
def test_several_threads_of_python_may_run_one_model_at_once():
    layer, x = (
        SurgeConv2d(64, 64, 3, padding=1).eval(),
        [torch.randn(1, 64, 8 + i, 9) for i in range(4)],
    )
    packed = PackedConv2d(layer)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for one, out in zip(x, pool.map(packed, x), strict=True):
                with torch.no_grad():
                    assert torch.equal(out, layer(one))
