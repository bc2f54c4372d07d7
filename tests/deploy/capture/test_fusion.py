"""Passes in place of operators of PyTorch in a recorded network, against the operators."""

import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from surge_mm import SurgeConv2d
from surge_mm.deploy import CapturedNetwork, PackedConv2d

pytest.importorskip('numba')
from surge_mm.deploy.capture.network import is_same  # noqa: E402  needs Numba
from surge_mm.deploy.capture.program import Program  # noqa: E402
from surge_mm.deploy.capture.recorder import Call, Operator, Recorder  # noqa: E402
from surge_mm.deploy.capture.replay import Replay  # noqa: E402

SPECIAL = [float('nan'), float('inf'), -float('inf'), 0.0, -0.0, 1e-40, -1e-40, 3e38, 1.0, -2.5]

DOUBLE, PAIR = torch.tensor([2.0], dtype=torch.float64), torch.tensor([2.0, 3.0])


def numbers(*shape, seed=0):
    """Return noise in which each third number is a special one."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=g)
    special = torch.tensor(SPECIAL)[torch.randint(len(SPECIAL), shape, generator=g)]
    return torch.where(torch.rand(shape, generator=g) < 1 / 3, special, x)


def images(*shape, seed=0):
    return numbers(*shape, seed=seed).contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def functions(forward, shape, make=images):
    """Return the operators that are left, and the number of passes, once the outputs are right."""
    recorder = Recorder(make(*shape))
    with recorder:
        result = forward(recorder.blocks[0].tensor)
    program = Program(recorder, result)
    replay = Replay(program)
    given = [make(*shape, seed=seed) for seed in range(1, 4)]
    found = [replay.run(x.clone()) for x in given]
    for one, x in zip(found, given, strict=True):
        assert is_same(one, forward(x))
    left = [str(call.function) for call in program.calls if isinstance(call, Operator)]
    return left, len(program.calls) - len(left)


def random_action(rng, scale):
    a, b = rng.choice([0, -0.0, -1, 0.3]), rng.choice([0.5, 2, 6, float('inf')])
    return rng.choice(
        [
            lambda x: x * 8,
            lambda x: x * -0.1,
            lambda x: x * float('inf'),
            lambda x: x * scale,
            lambda x: scale * x,
            lambda x: x.clamp(min=a),
            lambda x: x.clamp(max=b),
            lambda x: x.clamp(a, b),
            lambda x: x.clamp(b, a),
            torch.relu,
            # in place, of a tensor that nothing else reads
            lambda x: (x * 2).mul_(scale),
            lambda x: (x * 2).clamp_(min=a),
            lambda x: (x * 2).relu_(),
        ]
    )


def random_view(rng, dims):
    """Return a function that returns a view without, or with gaps."""
    views = [lambda x: x, lambda x: x.transpose(0, -1), lambda x: x[..., ::2]]
    views += [lambda x: x.unsqueeze(0).expand(2, *x.shape)] if dims < 4 else []
    views += [lambda x: x[:, 1:], lambda x: x[:, :1]] if dims > 1 else []
    views += [lambda x: x.permute(0, 2, 3, 1), lambda x: x[:, :, 1:, ::3]] if dims == 4 else []
    return rng.choice(views)


@pytest.mark.parametrize('seed', range(40))
def test_a_sequence_of_elementwise_operators_is_one_pass(seed):
    rng = random.Random(seed)
    scale = nn.Parameter(torch.tensor(rng.choice([1.7, -0.3])))
    if seed % 3 == 0:
        scale = nn.Parameter(scale.detach().reshape(1))
    actions = [random_action(rng, scale) for _ in range(rng.randrange(1, 5))]
    shape = [rng.randrange(2, 7) for _ in range(rng.randrange(1, 5))]
    view = random_view(rng, len(shape))

    def forward(x):
        x = view(x)
        for action in actions:
            x = action(x)
        return x

    is_image = len(shape) == 4 and seed % 2
    assert functions(forward, shape, images if is_image else numbers) == ([], 1)


@pytest.mark.parametrize(
    ('shape', 'order'),
    [
        ((2, 5, 7, 9), 'last'),
        ((1, 5, 24, 31), 'last'),
        ((3, 8, 1, 1), 'last'),
        ((2, 6, 5, 3), 'first'),
    ],
)
def test_the_boxes_of_fcos_are_scaled_in_one_pass(shape, order):
    scale = nn.Parameter(torch.tensor(1.3))
    make = images if order == 'last' else numbers

    def forward(maps):
        maps = maps * 1.5
        boxes = (maps[:, :4] * scale).float().clamp(min=0)
        boxes *= 16
        return boxes, maps[:, 4:]

    assert functions(forward, shape, make) == ([], 2)


def test_large_tensors_are_shared_out_to_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:

        def forward(x):
            small = F.avg_pool2d(x, 2)
            return x.clamp(-1, 1)[:, :40] * 2, F.interpolate(small, scale_factor=2) + x

        recorder = Recorder(images(1, 48, 64, 64))
        with torch.inference_mode(), recorder:
            result = forward(recorder.blocks[0].tensor)
        program = Program(recorder, result)
        assert [call.threads for call in program.calls] == [2, 2, 2, 2]
        assert functions(forward, (1, 48, 64, 64)) == ([], 4)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize('seed', range(20))
def test_upsampling_and_addition_are_one_pass(seed):
    rng = random.Random(seed)
    n, c, h, w = (rng.randrange(1, limit) for limit in (4, 40, 9, 9))
    height, width = rng.choice([(2 * h, 2 * w), (h + rng.randrange(9), w + rng.randrange(9))])
    small_first = seed % 2

    def forward(x):
        strides = (h * w * c, 1, w * c, c)
        small = F.interpolate(x.as_strided((n, c, h, w), strides, c), size=(height, width))
        return small + x[n:] if small_first else x[n:] + small

    assert functions(forward, (2 * n, c, height, width)) == ([], 1)


@pytest.mark.parametrize('seed', range(20))
def test_an_average_pool_is_one_pass(seed):
    rng = random.Random(seed)
    kernel = rng.choice([2, 3, (1, 2), (3, 2), [2]])
    step = rng.choice([None, 1, 2, (2, 1), (3, 2)])
    arguments = dict(ceil_mode=rng.random() < 0.5, count_include_pad=rng.random() < 0.5)
    n, c, h, w = (rng.randrange(low, high) for low, high in ((1, 4), (1, 40), (3, 12), (3, 12)))
    assert functions(lambda x: F.avg_pool2d(x, kernel, step, **arguments), (n, c, h, w)) == ([], 1)


def test_nan_has_the_bits_that_it_has_in_the_operators():
    def extreme(*shape, seed=0):
        g = torch.Generator().manual_seed(seed)
        values = torch.tensor([float('nan'), -float('nan'), float('inf'), -float('inf'), 1])
        x = values[torch.randint(5, shape, generator=g)]
        return x.contiguous(memory_format=torch.channels_last)

    def forward(x):
        strides = 4 * 32, 1, 2 * 32, 32
        first = F.interpolate(x.as_strided((1, 32, 2, 2), strides), scale_factor=2) + x[1:]
        second = x[1:] + F.interpolate(x.as_strided((1, 32, 2, 2), strides), scale_factor=2)
        # a pool of whole vectors: in others, PyTorch takes the bits of another number
        return first, second, F.avg_pool2d(x, 2), x[:, ::3] * 2, x.clamp(-2, 2)

    assert functions(forward, (2, 32, 4, 4), extreme) == ([], 5)


def test_results_that_are_used_elsewhere_are_kept():
    def read_later(x):
        inner = x * 2
        return inner.clamp(min=0) * 3, inner.cumsum(0)

    def returned(x):
        inner = x * 2
        return inner, inner.clamp(min=0) * 3

    def changed_later(x):
        inner = x * 2
        outer = inner.clamp(min=0)
        inner.mul_(3)
        return outer + inner

    def upsampled_twice(x):
        large = F.interpolate(x, scale_factor=2)
        return large + large.neg(), large + large

    def upsampled_and_returned(x):
        large = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2)
        return large, x + large

    shape = 2, 12, 6, 8
    assert functions(read_later, shape) == (['aten.cumsum.default'], 2)
    assert functions(returned, shape) == ([], 2)
    assert functions(changed_later, shape) == (['aten.add.Tensor'], 3)
    left, passes = functions(upsampled_twice, shape)
    assert (left[0], passes) == ('aten.upsample_nearest2d.vec', 0)
    assert functions(upsampled_and_returned, shape) == (
        ['aten.upsample_nearest2d.vec', 'aten.add.Tensor'],
        1,
    )


def test_an_argument_that_changes_after_its_use_is_read_before():
    def forward(x):
        first = x * 2
        doubled = first * 2
        first.add_(1)
        pooled = F.avg_pool2d(first, 2)
        first.add_(1)
        return doubled, pooled, first

    assert functions(forward, (2, 12, 6, 8)) == (['aten.add_.Tensor'] * 2, 3)


def test_an_operator_in_place_of_the_input_changes_it():
    x = images(1, 4, 3, 3)
    with torch.inference_mode():
        recorder = Recorder(x.clone())
        with recorder:
            result = recorder.blocks[0].tensor.relu_().mul_(2) * 3
        replay = Replay(Program(recorder, result))
        given = x.clone()
        assert is_same(replay.run(given), x.relu() * 2 * 3)
        assert is_same(given, x.relu() * 2)


@pytest.mark.parametrize(
    'forward',
    [
        lambda x: x.double() * 2,
        lambda x: x * DOUBLE,
        lambda x: x * PAIR,
        lambda x: x * float('nan'),
        lambda x: x.clamp(min=float('nan')),
        lambda x: x * x,
        lambda x: x[None].unsqueeze(-1).expand(2, *x.shape, 3) * 2,
        lambda x: x[:, :, ::2].mul_(2),
        lambda x: x[:0] * 2,
        lambda x: x * 2j,
        lambda x: F.avg_pool2d(x, 2, padding=1),
        lambda x: F.avg_pool2d(x, 2, divisor_override=3),
        lambda x: F.avg_pool2d(x.contiguous(), 2),
        lambda x: F.avg_pool2d(x[0], 2),
        lambda x: F.interpolate(x.contiguous(), scale_factor=2) + 1,
        lambda x: F.interpolate(x, scale_factor=2) + F.interpolate(x, scale_factor=2)[:1],
        lambda x: torch.add(F.interpolate(x, size=x.shape[2:]), x, alpha=2),
        lambda x: x + F.interpolate(x, size=x.shape[2:], mode='nearest-exact'),
        lambda x: F.interpolate(x, size=x.shape[2:], mode='bilinear') + x,
    ],
)
def test_other_operators_stay(forward):
    left, passes = functions(forward, (2, 12, 6, 2))
    assert left
    assert passes == 0


class Scaled(nn.Module):
    """A packed layer with a learned scale behind it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = PackedConv2d(SurgeConv2d(3, 5, 3, padding=1).eval())
        self.scale = nn.Parameter(torch.tensor(1.5))

    def forward(self, x):
        return self.layer(x)[:, :4] * self.scale


@torch.no_grad()
def test_a_changed_scale_is_used():
    model = Scaled()
    network, x = CapturedNetwork(model), images(1, 3, 9, 7)

    def fill():
        model.scale.fill_(-2)

    def replace_content():
        model.scale.data = torch.tensor(0.7)

    def fill_detached():
        model.scale.data.fill_(3)

    def load():
        model.load_state_dict({**model.state_dict(), 'scale': torch.tensor(9.0)})

    for change in (fill, replace_content, fill_detached, load):
        for _ in range(3):
            before = network(x)
        (capture,) = network._kept.values()
        assert all(isinstance(call, Call) for call in capture.program.calls)
        change()
        expected = model(x)
        assert not is_same(before, expected)
        for _ in range(3):
            assert is_same(network(x), expected)
