"""Two gloo ranks and one process on the joined batch take the same steps."""

import os
import socket
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from surge_mm import AdaptiveGradientScalerHook, SurgeResNet

STEPS = 20


class Classifier(nn.Module):
    """A binary ResNet in float64 with frozen batch norms of non-trivial affine."""

    def __init__(self, compensator):
        super().__init__()
        cfg = {'type': 'surge_mm.SurgeConv2d', 'compensator': compensator}
        self.backbone = SurgeResNet(18, base_channels=8, stem='light', conv_cfg=cfg, norm_eval=True)
        self.head = nn.Linear(64, 3)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.running_mean, module.bias.data):
                    nn.init.normal_(tensor, std=0.3)
                for tensor in (module.running_var, module.weight.data):
                    nn.init.uniform_(tensor, 0.5, 2)
        self.double().train()

    def forward(self, x):
        return self.head(self.backbone(x)[-1].mean((2, 3)))


def train(rank, world_size, compensator, hook_kwargs, port, folder):
    """STEPS steps on this rank's part of each batch; rank 0 saves the parameters and lambdas."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Classifier(compensator)
    if world_size > 1:
        os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
        dist.init_process_group('gloo', rank=rank, world_size=world_size)
        model = DistributedDataParallel(model, broadcast_buffers=False)
    if hook_kwargs is not None:
        hook = AdaptiveGradientScalerHook(**hook_kwargs)
        hook.before_train(SimpleNamespace(model=model, hooks=[]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        images = torch.randn(4, 3, 32, 32, generator=generator, dtype=torch.float64)
        labels = torch.randint(3, (4,), generator=generator)
        images, labels = (t.chunk(world_size)[rank] for t in (images, labels))
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    torch.save(list(model.parameters()), f'{folder}/{world_size}_{rank}.pth')
    if world_size > 1:
        dist.destroy_process_group()


@pytest.mark.parametrize(
    'compensator, hook_kwargs',
    [
        ({'scale': 0.1}, None),
        ({'eta': 0.1}, {'eta': 0.1, 'sync': True}),
        ({'eta': 0.1}, {'eta': 0.5, 'preserve_norm': True, 'sync': True}),
    ],
    ids=['fixed', 'ags', 'preserve_norm'],
)
def test_two_ranks_agree_with_one_process_on_the_joined_batch(compensator, hook_kwargs, tmp_path):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    torch.manual_seed(0)
    initial = [p.detach().clone() for p in Classifier(compensator).parameters()]
    train(0, 1, compensator, hook_kwargs, port, tmp_path)
    mp.start_processes(
        train, (2, compensator, hook_kwargs, port, tmp_path), nprocs=2, start_method='fork'
    )
    single, first, second = (torch.load(tmp_path / f'{name}.pth') for name in ('1_0', '2_0', '2_1'))
    moved = False
    for start, alone, one, other in zip(initial, single, first, second, strict=True):
        assert torch.equal(one, other)
        torch.testing.assert_close(one, alone, rtol=0, atol=1e-10)
        moved = moved or not torch.equal(start, alone)
    assert moved


def test_without_sync_lambda_is_each_ranks_own_and_parameters_stay_equal(tmp_path):
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    compensator = {'eta': 0.5}
    train(0, 1, compensator, {'eta': 0.5}, port, tmp_path)
    mp.start_processes(
        train, (2, compensator, {'eta': 0.5}, port, tmp_path), nprocs=2, start_method='fork'
    )
    single, first, second = (torch.load(tmp_path / f'{name}.pth') for name in ('1_0', '2_0', '2_1'))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert any(
        not torch.allclose(one, alone, rtol=0, atol=1e-10)
        for one, alone in zip(first, single, strict=True)
    )
