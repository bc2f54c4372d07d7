"""Models as after training, for comparisons with their packed form."""

import torch
from torch import nn

import surge_mm
from surge_mm.layers import BinaryLayer


def trained(model):
    """Return the model with numbers as after training."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 2)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.3)
        elif isinstance(module, BinaryLayer) and module.activation_shift is not None:
            nn.init.normal_(module.activation_shift, std=0.3)
        elif isinstance(module, surge_mm.RPReLU):
            nn.init.normal_(module.a, std=0.3)
            nn.init.normal_(module.c, std=0.3)
    return model.eval()


def channels_last(model):
    """In the memory format of a packed model, in which real convolutions round alike."""
    return model.to(memory_format=torch.channels_last)
