"""Signs that packed layers of a recorded network hand over, against the same layers called one by one."""

import pytest
import torch
from torch import nn

from surge_mm import SurgeConv2d
from surge_mm.deploy import CapturedNetwork, PackedConv2d

pytest.importorskip('numba')
from surge_mm.deploy.capture.handover import OUT, SIGNS, X  # noqa: E402  needs Numba
from surge_mm.deploy.capture.network import is_same  # noqa: E402
from surge_mm.deploy.cpu.plan import Plan  # noqa: E402


def layers(*channels, **arguments):
    torch.manual_seed(0)
    found = nn.ModuleList()
    for before, after in zip(channels, channels[1:], strict=False):
        layer = SurgeConv2d(before, after, 3, padding=1, **arguments).eval()
        found.append(PackedConv2d(layer))
        found[-1].epilogue.fold_activation(nn.PReLU(after))
    return found


@torch.no_grad()
def used(model, forward):
    """Return which of input, output and signs each layer reads and writes, once the outputs are right."""
    network = CapturedNetwork(model, forward)
    for x in torch.randn(4, 2, 3, 9, 7):
        assert is_same(network(x), forward(x))
    (capture,) = network._kept.values()
    names = {X: 'x', OUT: 'out', SIGNS: 'signs'}
    return [
        {names[field] for field, _, _ in call.pointers if field in names}
        for call in capture.program.calls
        if isinstance(getattr(call, 'owner', None), Plan)
    ]


def test_layers_in_sequence_hand_over_signs_alone():
    model = layers(3, 48, 80, 20, 16)
    assert used(model, lambda x: model[3](model[2](model[1](model[0](x))))) == [
        {'x', 'signs'},
        {'signs'},
        {'signs'},
        {'out'},
    ]


@pytest.mark.parametrize('pad_value', [0, 1, -1])
def test_the_border_of_each_padding_value_is_kept(pad_value):
    model = layers(3, 20, 5, pad_value=pad_value)
    assert used(model, lambda x: model[1](model[0](x))) == [{'x', 'signs'}, {'out'}]


def test_numbers_that_are_read_elsewhere_are_written_beside_the_signs():
    model = layers(3, 32, 32)

    def added(x):
        inner = model[0](x)
        return model[1](inner) + inner

    def returned(x):
        inner = model[0](x)
        return model[1](inner), inner

    def read_twice(x):
        inner = model[0](x)
        return model[1](inner), model[1](inner)

    assert used(model, added) == used(model, returned) == [{'x', 'out', 'signs'}, {'out'}]
    assert used(model, read_twice) == [{'x', 'out', 'signs'}, {'out'}, {'x', 'out'}]


def test_numbers_that_change_before_they_are_read_are_packed_by_the_reader():
    model = layers(3, 32, 32)

    def in_place(x):
        return model[1](model[0](x).neg_())

    def a_part(x):
        return model[1](model[0](x)[:1])

    def another_shape(x):
        return model[1](model[0](x).reshape(2, 32, 7, 9))

    def cropped(x):
        return model[1](model[0](x)[:, :, 1:])

    for forward in (in_place, a_part, another_shape, cropped):
        assert used(model, forward) == [{'x', 'out'}, {'x', 'out'}], forward
