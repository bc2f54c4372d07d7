"""Runs of a few iterations in which a hook acts on a classifier of two binary layers."""

import random

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from surge_mm import SurgeConv2d, SurgeLinear


class Pictures(Dataset):
    def __len__(self):
        return 24

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return torch.randn(3, 8, 8, generator=generator), index % 3


class Classifier(BaseModel):
    """A classifier whose binary layers have the same settings."""

    def __init__(self, **settings):
        super().__init__()
        self.stem = SurgeConv2d(3, 8, 3, padding=1, **settings)
        self.norm = nn.BatchNorm2d(8)
        self.head = SurgeLinear(8, 3, **settings)

    def forward(self, images, labels, mode='loss'):
        x = self.norm(self.stem(images)).mean((2, 3))
        return {'loss': F.cross_entropy(self.head(x), labels)}


def hook_runner(folder, model, *hooks, dataset=None, batch_size=4, lr=0.01, **settings):
    """Return a Runner of one epoch, of 6 iterations with the :class:`Pictures`, without shuffling."""
    return Runner(
        model=model,
        work_dir=str(folder),
        train_dataloader={
            'dataset': dataset or Pictures(),
            'batch_size': batch_size,
            'collate_fn': {'type': 'default_collate'},
            'sampler': {'type': 'DefaultSampler', 'shuffle': False},
        },
        optim_wrapper={'optimizer': {'type': 'SGD', 'lr': lr}},
        custom_hooks=[*hooks],
        default_scope='mmengine',
        experiment_name=f'{folder.name}_{random.SystemRandom().random()}',
        **{'train_cfg': {'by_epoch': True, 'max_epochs': 1}, **settings},
    )
