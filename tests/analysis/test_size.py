from torch import nn

from surge_mm import SurgeConv2d
from surge_mm.analysis.size import size_in_bits


def test_size_of_a_network_counted_by_hand():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),  # 108 weights, 4 biases
        nn.BatchNorm2d(4),  # 8 numbers
        SurgeConv2d(4, 6, 3, bias=False),  # 216 signs, 6 scales
    )
    size = size_in_bits(model)
    assert size.binary == 216
    assert size.real == 32 * (108 + 4 + 8 + 6)
    assert size.float == 32 * (108 + 4 + 8 + 216)
    assert size.total == 216 + 32 * 126


def test_auxiliary_weights_count_for_nothing():
    sizes = [size_in_bits(SurgeConv2d(4, 6, 3, compensator=c)) for c in (None, {'eta': 0.1})]
    assert sizes[0] == sizes[1]
