"""Binary layers that replace ``nn.Conv2d`` and ``nn.Linear``, and RPReLU. Needs PyTorch alone."""

from surge_mm.layers.binary_activation import BinaryActivation
from surge_mm.layers.binary_embedding import BinaryEmbedding
from surge_mm.layers.binary_layer import BinaryLayer, compensated_layers
from surge_mm.layers.learned_activation import LearnedActivation
from surge_mm.layers.rprelu import RPReLU
from surge_mm.layers.schedule import scheduled_binarizers, set_progress
from surge_mm.layers.surge_conv import SurgeConv2d
from surge_mm.layers.surge_linear import SurgeLinear

__all__ = [
    'BinaryActivation',
    'BinaryEmbedding',
    'BinaryLayer',
    'LearnedActivation',
    'RPReLU',
    'SurgeConv2d',
    'SurgeLinear',
    'compensated_layers',
    'scheduled_binarizers',
    'set_progress',
]
