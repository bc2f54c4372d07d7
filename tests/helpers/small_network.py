"""A small network of all kinds of binary layers, with its loss and its gradients."""

import torch
from torch import nn

from surge_mm.layers import SurgeConv2d, SurgeLinear


def network(compensator, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        SurgeConv2d(3, 8, 3, padding=1, bias=False, compensator=compensator),
        nn.BatchNorm2d(8),
        nn.PReLU(8),
        SurgeConv2d(8, 8, 3, padding=1, stride=2, compensator=compensator),
        nn.Flatten(),
        SurgeLinear(8 * 16, 5, compensator=compensator),
    )


def loss_of(model, x):
    return model(x).square().mean()


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
