"""The number of binary layers in each part of a model."""

from torch import nn

import surge_mm
from surge_mm.analysis.binary_parts import describe_binary_parts


def test_the_binary_layers_are_counted_by_part():
    model = nn.ModuleDict(
        {
            'backbone': nn.Sequential(nn.Conv2d(3, 8, 3), surge_mm.SurgeConv2d(8, 8, 3)),
            'head': nn.Linear(8, 2),
        }
    )
    assert describe_binary_parts(model) == [
        '1 of 3 convolutions and linear layers are binary, with 576 of 808 weights (tools/get_ops.py prints the rule '
        'of each layer)',
        '  backbone: 1 of 2; in full precision: 0',
        '  head: 0 of 1',
    ]
