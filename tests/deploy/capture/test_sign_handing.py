"""Signs that layers of a recorded network hand to one another, against the modules, which take them of the values."""

import random

import pytest
import torch
from torch import nn

from surge_mm import SurgeConv2d
from surge_mm.deploy import PackedConv2d, pack

pytest.importorskip('numba')
from surge_mm.deploy.capture.network import is_same  # noqa: E402  needs Numba
from surge_mm.deploy.capture.program import Program  # noqa: E402
from surge_mm.deploy.capture.recorder import Call, Recorder  # noqa: E402
from surge_mm.deploy.capture.replay import Replay  # noqa: E402
from surge_mm.deploy.cpu import job, operator_job  # noqa: E402
from surge_mm.deploy.cpu.job import Job  # noqa: E402
from surge_mm.deploy.cpu.kernels import run_parts  # noqa: E402

SPECIAL = [float('nan'), float('inf'), -float('inf'), 0.0, -0.0, 1e-40, 3e38]


def images(channels, seed=0, size=(9, 11)):
    """Return noise in which each fifth number is a special one."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(2, channels, *size, generator=g)
    special = torch.tensor(SPECIAL)[torch.randint(len(SPECIAL), x.shape, generator=g)]
    x = torch.where(torch.rand(x.shape, generator=g) < 0.2, special, x)
    return x.contiguous(memory_format=torch.channels_last)


def conv(channels, out=None, **settings):
    return SurgeConv2d(
        channels, out or channels, 3, padding=1, bias=False, compensator=None, **settings
    )


def packed(channels, **settings):
    return PackedConv2d(conv(channels, **settings).eval())


@torch.inference_mode()
def jobs(forward, channels, threads=1):
    """Return the jobs of the packed layers of a network, once its outputs are those of the modules."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        forward(
            images(channels)
        )  # as before a recording, so that the numbers of the layers are prepared
        recorder = Recorder(images(channels))
        with recorder:
            result = forward(recorder.blocks[0].tensor)
        program = Program(recorder, result)
        replay = Replay(program)
        for seed in (1, 2, 3):
            x = images(channels, seed)
            assert is_same(replay.run(x.clone()), forward(x))
    finally:
        torch.set_num_threads(before)
    calls = [call for call in program.calls if isinstance(call, Call)]
    number = len(Job._fields)
    return [Job(*c.content[:number]) for c in calls if c.function == run_parts.address]


def packs(found):
    """Return for each job whether it takes signs of values, and whether it writes values."""
    return [(job.packed_parts > 0, job.out != 0) for job in found]


@pytest.mark.parametrize('threads', [1, 2])
@pytest.mark.parametrize('activation', [nn.Identity, nn.Hardtanh, nn.PReLU])
def test_layers_in_sequence_hand_on_signs_alone(threads, activation):
    torch.manual_seed(0)
    layers = [(conv(48), nn.BatchNorm2d(48), activation()) for _ in range(3)]
    for _, norm, _ in layers:
        nn.init.normal_(norm.running_mean, std=3)
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    model = pack(nn.Sequential(*(module for triple in layers for module in triple)).eval())
    found = jobs(model, 48, threads)
    assert packs(found) == [(True, False), (False, False), (False, True)]


def branches(first, *others):
    """Return a network in which layers read the output of the first one."""

    def forward(x):
        y = first(x)
        return [layer(y) for layer in others]

    return forward


def test_layers_that_read_the_same_signs_share_them():
    first, second, third = (packed(32) for _ in range(3))

    def forward(x):
        y = first(x)
        return second.run(y, y).values, third.run(y, y).values

    assert packs(jobs(forward, 32)) == [(True, True), (False, True), (False, True)]


@pytest.mark.parametrize(
    'settings',
    [{'activation': {'type': 'RSign'}}, {'pad_value': -1}, {'dilation': 2}],
    ids=lambda settings: next(iter(settings)),
)
def test_layers_that_read_other_signs_of_the_same_values_do_not_share_them(settings):
    torch.manual_seed(0)
    other = conv(32, **settings)
    if other.activation_shift is not None:
        nn.init.normal_(other.activation_shift)
    forward = branches(packed(32), packed(32), PackedConv2d(other.eval()))
    assert packs(jobs(forward, 32)) == [(True, True), (False, True), (True, True)]


def test_a_shift_of_zero_is_not_that_of_a_layer_without_one():
    """The sum of -0.0 and a shift of 0 is +0.0; a layer without a shift takes the sign of -0.0 itself."""
    first, with_shift = packed(32), packed(32, activation={'type': 'RSign'})
    first.epilogue.set('m1', torch.full((32,), -0.0))  # so all values are 0.0 or -0.0
    forward = branches(first, packed(32), with_shift)
    assert packs(jobs(forward, 32)) == [(True, True), (False, True), (True, True)]


def test_values_that_are_read_elsewhere_are_still_written():
    first, second = packed(32), packed(32)

    def returned(x):
        y = first(x)
        return y, second(y)

    def read(x):
        y = first(x)
        z = y - 1
        return second(y), z

    for forward in (returned, read):
        assert packs(jobs(forward, 32)) == [(True, True), (False, True)]


def test_signs_of_values_that_are_changed_in_between_are_taken_of_the_new_ones():
    first, second, third = (packed(32) for _ in range(3))

    def forward(x):
        y = first(x)
        z = second(y)
        y.sub_(z)
        return third(y)

    assert packs(jobs(forward, 32)) == [(True, True), (False, True), (True, True)]


@pytest.mark.parametrize(
    'part',
    [lambda y: y[:1], lambda y: y[1:], lambda y: y[:1, :, :5], lambda y: y[:1, :, 3:]],
    ids=['first image', 'last image', 'first rows', 'last rows'],
)
def test_signs_of_a_part_of_the_values_are_taken_of_the_values(part):
    first, second = packed(32), packed(32)
    found = jobs(lambda x: second(part(first(x))), 32)
    assert packs(found) == [(True, True), (True, True)]


@pytest.mark.parametrize('seed', range(16))
def test_random_layers_in_sequence_compute_what_the_modules_compute(seed):
    rng, channels = random.Random(seed), 32
    torch.manual_seed(seed)
    modules = []
    for _ in range(4):
        out = rng.choice([5, 16, 20, 32, 48, 64])
        groups = rng.choice([1, 1, 2]) if channels % 2 == out % 2 == 0 else 1
        settings = {
            'stride': rng.choice([1, 1, 2]),
            'groups': groups,
            'pad_value': rng.choice([0, 1, -1]),
            'activation': {'type': rng.choice(['RSign', 'STESign'])},
        }
        layer = conv(channels, out, **settings)
        if layer.activation_shift is not None:
            nn.init.normal_(layer.activation_shift)
        modules += [layer, nn.BatchNorm2d(out), rng.choice([nn.Identity(), nn.PReLU(out)])]
        channels = out
    found = jobs(pack(nn.Sequential(*modules).eval()), 32, threads=rng.choice([1, 2]))
    assert len(found) == 4 and found[-1].out


def test_all_passes_have_the_output_in_the_same_field():
    passes = [
        value
        for module in (job, operator_job)
        for name, value in vars(module).items()
        if name.endswith('Pass')
    ]
    assert len(passes) == 6 and {one._fields.index('out') for one in passes} == {3}
