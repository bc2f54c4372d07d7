"""A training run of seconds that uses all that a resumed run must get back.

A binary classifier with dropout, batch norm and AGS; data in random order, with noise from the generators of Python,
NumPy and PyTorch; momentum, a schedule by iteration and one by epoch, warm-up of eta, an averaged model.

python tests/helpers/tiny_run.py FOLDER '{"loop": "iter"}'    # goes on where it was, if it was
"""

import contextlib
import json
import logging
import random
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

import surge_mm
from surge_mm.launch.cli import run
from surge_mm.launch.resume import newest_checkpoint

BATCHES = 6  # an epoch


class Pictures(Dataset):
    """Random pictures and labels; each reading adds noise from all three global generators."""

    def __len__(self):
        return 4 * BATCHES

    def __getitem__(self, index):
        image = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(index))
        noise = random.random() + np.random.rand() + torch.rand(()).item()
        return image + noise, index % 3


class Classifier(BaseModel):
    def __init__(self, activation='EDE', weight='ReCU', compensator=None, ballast=0, head=None):
        super().__init__()
        self.register_buffer('ballast', torch.zeros(ballast))
        binary = {
            'activation': {'type': activation},
            'weight': {'type': weight},
            'compensator': compensator or {'eta': 0.1},
        }
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv = surge_mm.SurgeConv2d(8, 8, 3, padding=1, **binary)
        self.norm = nn.BatchNorm2d(8)
        own = {} if head is None else {'activation': {'type': head}}
        self.head = surge_mm.SurgeLinear(8, 3, **{**binary, **own})

    def forward(self, images, labels, mode='loss'):
        x = self.norm(self.conv(self.stem(images)) + images.mean(1, keepdim=True)).mean((2, 3))
        scores = self.head(F.dropout(x, 0.3, self.training))
        if mode == 'loss':
            return {'loss': F.cross_entropy(scores, labels)}
        if mode == 'scores':
            return scores
        return [(scores.argmax(1) == labels).float()]


class Journal(Hook):
    """Writes down each iteration when all hooks are through with it."""

    priority = 'LOWEST'

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        with open(Path(runner.work_dir) / 'journal', 'a') as file:
            file.write(f'{runner.iter + 1}\n')


class Accuracy(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results += [value for batch in data_samples for value in batch.tolist()]

    def compute_metrics(self, results):
        return {'accuracy': sum(results) / len(results)}


def tiny_runner(
    work_dir,
    loop='epoch',
    length=4,
    accumulate=1,
    checkpoint=None,
    activation='EDE',
    weight='ReCU',
    compensator=None,
    ema=False,
    validate=False,
    exact=True,
    ballast=0,
    head=None,
    journal=False,
    optim_wrapper='OptimWrapper',
    hooks=(),
):
    """``length`` epochs, or as many iterations; goes on from the newest checkpoint of ``work_dir``, if there is one."""
    Path(work_dir).mkdir(parents=True, exist_ok=True)
    start = newest_checkpoint(Path(work_dir))
    torch.manual_seed(3)
    by_epoch = loop == 'epoch'
    iterations = length * BATCHES
    data = {
        'dataset': Pictures(),
        'batch_size': 4,
        'num_workers': 0,
        'collate_fn': {'type': 'default_collate'},
    }
    sampler = DefaultSampler if by_epoch else InfiniteSampler
    checkpoint = {'interval': 1 if by_epoch else BATCHES, 'by_epoch': by_epoch} | (checkpoint or {})
    validation = {}
    if validate:
        validation = {
            'val_dataloader': data | {'sampler': {'type': DefaultSampler, 'shuffle': False}},
            'val_cfg': {},
            'val_evaluator': [{'type': Accuracy}],
        }
    runner = Runner(
        model=Classifier(activation, weight, compensator, ballast, head),
        work_dir=str(work_dir),
        train_dataloader=data | {'sampler': {'type': sampler, 'shuffle': True}},
        train_cfg={'by_epoch': True, 'max_epochs': length, 'val_interval': 1}
        if by_epoch
        else {'by_epoch': False, 'max_iters': iterations, 'val_interval': BATCHES},
        optim_wrapper={
            'type': optim_wrapper,
            'optimizer': {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9},
            'accumulative_counts': accumulate,
        },
        param_scheduler=[
            {'type': 'LinearLR', 'start_factor': 0.1, 'by_epoch': False, 'end': iterations // 3},
            {'type': 'MultiStepLR', 'milestones': [1, 3], 'by_epoch': by_epoch},
        ],
        default_hooks={
            'checkpoint': {'type': 'surge_mm.SafeCheckpointHook', **checkpoint},
            'guard': {'type': 'surge_mm.NonFiniteGuardHook'},
            'logger': {'type': 'LoggerHook', 'interval': 1},
        }
        | ({'exact_resume': {'type': 'surge_mm.ExactResumeHook'}} if exact else {}),
        custom_hooks=[
            {'type': 'surge_mm.AdaptiveGradientScalerHook', 'eta': 0.1, 'warmup_iters': 9},
            {'type': 'surge_mm.BinarizerScheduleHook'},
            *hooks,
        ]
        + ([{'type': 'EMAHook', 'momentum': 0.1}] if ema else [])
        + ([Journal()] if journal else []),
        default_scope='mmengine',
        randomness={'seed': 3},
        load_from=start and str(start),
        resume=start is not None,
        experiment_name=f'{Path(work_dir).name}_{random.SystemRandom().random()}',
        log_level=logging.ERROR,
        **validation,
    )
    return runner


class Stop(Hook):
    """Ends a run behind iteration ``at``, as Ctrl-C would."""

    priority = 'LOWEST'

    def __init__(self, at):
        self.at = at

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.at:
            raise KeyboardInterrupt


def stop_and_resume(folder, stops, **kwargs):
    """Return the last checkpoints of a run, and of one stopped after each iteration of ``stops`` and resumed."""
    tiny_runner(folder / 'whole', **kwargs).train()
    for at in stops:
        with contextlib.suppress(KeyboardInterrupt):
            tiny_runner(folder / 'resumed', **kwargs, hooks=[Stop(at)]).train()
            raise AssertionError(f'the run was not stopped at iteration {at}')
    tiny_runner(folder / 'resumed', **kwargs).train()
    last = newest_checkpoint(folder / 'whole')
    return last, folder / 'resumed' / last.name


def state(file):
    """Return what two runs must share: weights, averaged weights, optimizer, schedules, accumulated gradients."""
    checkpoint = torch.load(file, weights_only=True)
    kept = (
        'state_dict',
        'ema_state_dict',
        'optimizer',
        'param_schedulers',
        'accumulated_gradients',
    )
    return {key: checkpoint[key] for key in kept if key in checkpoint}


def differences(one, other, path=''):
    """Where two nested states differ, to the bit."""
    if isinstance(one, torch.Tensor):
        return [] if torch.equal(one, other) else [path]
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return [path]
        return [d for key in one for d in differences(one[key], other[key], f'{path}/{key}')]
    if isinstance(one, (list, tuple)):
        if len(one) != len(other):
            return [path]
        pairs = enumerate(zip(one, other, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, f'{path}/{i}')]
    return [] if one == other else [path]


if __name__ == '__main__':
    torch.set_num_threads(1)
    run(lambda: tiny_runner(sys.argv[1], **json.loads(sys.argv[2])).train())
