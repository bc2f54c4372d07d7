"""Layers on several gloo ranks of one machine, most of them in a small classifier."""

import time
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from helpers.rank_runs import be_rank, free_port
from helpers.small_network import network
from helpers.text_models import BIT, text_batch, text_classifier
from mmengine.optim import OptimWrapper
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from surge_mm import AdaptiveGradientScalerHook, SurgeConv2d, SurgeLinear, SurgeResNet
from surge_mm.launch.distributed import lost_a_rank

ROOT = Path(__file__).parents[2]
STEPS = 20

# compensator, arguments of the hook, steps whose gradients are summed up
SETTINGS = {
    'fixed': ({'scale': 0.1}, None, 1),
    'ags': ({'eta': 0.1}, {'eta': 0.1, 'sync': True}, 1),
    'preserve_norm': ({'eta': 0.1}, {'eta': 0.5, 'preserve_norm': True, 'sync': True}, 1),
    'tied': ({'eta': 0.1, 'tied': True}, {'eta': 0.1, 'sync': True}, 1),
    'accumulation': ({'eta': 0.1}, {'eta': 0.1, 'sync': True}, 2),
}
BFLOAT16 = ({'eta': 0.1, 'dtype': 'bfloat16'}, {'eta': 0.1, 'sync': True}, 1)


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


def prepared(compensator, hook_kwargs):
    """Return the classifier of a rank, with the hook's settings."""
    model = Classifier(compensator)
    if dist.is_initialized():
        model = DistributedDataParallel(model, broadcast_buffers=False)
    if hook_kwargs is not None:
        hook = AdaptiveGradientScalerHook(**hook_kwargs)
        hook.before_train(SimpleNamespace(model=model, hooks=[]))
    return model


def _classify(rank, world_size, port, folder, seed, compensator, hook_kwargs, accumulated):
    be_rank(rank, world_size, port)
    torch.manual_seed(seed)
    if world_size > 1:
        dist.init_process_group('gloo')
    model = prepared(compensator, hook_kwargs)
    sgd = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    optimizer = OptimWrapper(sgd, accumulative_counts=accumulated)
    optimizer.initialize_count_status(model, 0, STEPS * accumulated)
    generator = torch.Generator().manual_seed(seed + 1)
    for _ in range(STEPS * accumulated):
        images = torch.randn(4, 3, 32, 32, generator=generator, dtype=torch.float64)
        labels = torch.randint(3, (4,), generator=generator)
        images, labels = (t.chunk(world_size)[rank] for t in (images, labels))
        with optimizer.optim_context(model):
            loss = F.cross_entropy(model(images), labels)
        optimizer.update_params(loss)
    torch.save(list(model.parameters()), f'{folder}/{world_size}_{rank}.pth')
    if world_size > 1:
        dist.destroy_process_group()


def classify(world_size, folder, settings, seed=0):
    """Return the parameters of each rank after STEPS steps on its part of the same batch of four images."""
    arguments = (world_size, free_port(), folder, seed, *settings)
    mp.start_processes(_classify, arguments, nprocs=world_size, start_method='forkserver')
    return [torch.load(folder / f'{world_size}_{rank}.pth') for rank in range(world_size)]


def read_alone():
    """Return the state dicts of a classifier of texts with learned scales behind three backward passes."""
    model = text_classifier(**BIT).double()
    return _read(model, model, text_batch())


def _read(model, inner, inputs):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    states = []
    for _ in range(3):
        optimizer.zero_grad()
        logits = model(inputs)
        F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long)).backward()
        states.append({name: value.clone() for name, value in inner.state_dict().items()})
        optimizer.step()
    return states


def _read_as_rank(rank, port, folder):
    be_rank(rank, 2, port)
    dist.init_process_group('gloo')
    model = text_classifier(**BIT).double()
    wrapped = DistributedDataParallel(model, broadcast_buffers=False)
    inputs = {name: value.chunk(2)[rank] for name, value in text_batch().items()}
    torch.save(_read(wrapped, model, inputs), f'{folder}/{rank}.pth')
    dist.destroy_process_group()


def read_by_two_ranks(folder):
    """Return what :func:`read_alone` returns, of each of two ranks, on its half of the batch."""
    arguments = (free_port(), folder)
    mp.start_processes(_read_as_rank, arguments, nprocs=2, start_method='forkserver')
    return [torch.load(folder / f'{rank}.pth') for rank in range(2)]


def _wrap_and_initialize(rank, port, folder, broadcasts):
    """Wrap a model whose ranks drew other numbers, then initialize it, and broadcast the state, as MMEngine does."""
    be_rank(rank, 2, port)
    dist.init_process_group('gloo')
    model = network({'eta': 0.1}, seed=rank)
    wrapped = DistributedDataParallel(model, broadcast_buffers=False)
    torch.manual_seed(2 + rank * broadcasts)
    nn.init.normal_(model[0].weight)
    if broadcasts:
        for value in model.state_dict().values():
            dist.broadcast(value, 0)
    wrapped.train()
    torch.save((model[0].weight, model[0].aux_weight), f'{folder}/{rank}.pth')
    dist.barrier()
    del wrapped  # before the group: else a rank hung at times, in which no backward pass had run
    dist.destroy_process_group()


def wrapped_and_initialized(folder, broadcasts):
    """Return W_b and W_a of a layer, of each of two ranks, after its initialization behind the wrapper."""
    arguments = (free_port(), folder, broadcasts)
    mp.start_processes(_wrap_and_initialize, arguments, nprocs=2, start_method='forkserver')
    return [torch.load(folder / f'{rank}.pth') for rank in range(2)]


def _start_scales(rank, port, folder):
    be_rank(rank, 2, port)
    dist.init_process_group('gloo')
    layer = SurgeLinear(4, 3, activation={'type': 'ElasticSign'})
    started = []
    for sizes in ((0, 0), (2, 0), (1, 1)):
        layer(torch.full((sizes[rank], 4), 2.0))
        started.append((layer.activation_scale.item(), layer.activation_scale_bits.item()))
    torch.save(started, f'{folder}/{rank}.pth')
    dist.barrier()
    dist.destroy_process_group()


def starts_of_scales(folder):
    """Return a learned scale and its bits after batches of 0 and 0, 2 and 0, and 1 and 1 rows, of each of two ranks."""
    arguments = (free_port(), folder)
    mp.start_processes(_start_scales, arguments, nprocs=2, start_method='forkserver')
    return [torch.load(folder / f'{rank}.pth') for rank in range(2)]


def difference(world_size, folder, settings, seed=0):
    """Return the largest difference between the parameters of ``world_size`` ranks, all equal, and of one process."""
    (alone,) = classify(1, folder, settings, seed)
    torch.manual_seed(seed)
    initial = Classifier(settings[0]).parameters()
    assert any(not torch.equal(p, q) for p, q in zip(initial, alone, strict=True))
    first, *others = classify(world_size, folder, settings, seed)
    for other in others:
        assert all(torch.equal(p, q) for p, q in zip(first, other, strict=True))
    return max((p - q).abs().max().item() for p, q in zip(first, alone, strict=True))


def waits_for_the_norms(rank, port):
    be_rank(rank, 2, port)
    dist.init_process_group('gloo', timeout=timedelta(seconds=2))
    model = prepared({'eta': 0.1}, {'sync': True})
    if rank == 1:
        time.sleep(60)
    with pytest.raises(RuntimeError, match='Timed out') as caught:
        model(torch.randn(1, 3, 32, 32, dtype=torch.float64)).sum().backward()
    assert lost_a_rank(caught.value)


class Skipping(nn.Module):
    """Two layers, of which the second one may be left out."""

    def __init__(self):
        super().__init__()
        self.first, self.second = (SurgeConv2d(2, 2, 3, compensator={'eta': 0.1}) for _ in range(2))

    def forward(self, x, skip):
        x = self.first(x)
        return (x if skip else self.second(x)).sum()


def leaves_a_layer_out(rank, port, sync, find_unused_parameters):
    be_rank(rank, 2, port)
    dist.init_process_group('gloo', timeout=timedelta(seconds=2))
    torch.manual_seed(0)
    model = DistributedDataParallel(Skipping(), find_unused_parameters=find_unused_parameters)
    AdaptiveGradientScalerHook(sync=sync).before_train(SimpleNamespace(model=model, hooks=[]))
    for step in range(3):
        model(torch.randn(1, 2, 9, 9), skip=(rank, step) == (1, 1)).backward()
