"""Captured networks, against the modules that they were recorded from."""

import copy
import pickle
import threading
from functools import partial

import pytest
import torch
from helpers.packed_files import classifier_config, detector_config, trained_model
from torch import nn
from torch.utils._pytree import tree_leaves

import surge_mm
from surge_mm.analysis.forward import network_forward
from surge_mm.deploy import CapturedNetwork, pack
from surge_mm.deploy.capture import network as module
from surge_mm.deploy.capture.recorder import Call
from surge_mm.deploy.cpu import geometry, layer
from surge_mm.deploy.packing.real_norms import NormPass
from surge_mm.utils.errors import UsageError


def images(count=4, batch=1, size=(40, 56), seed=0):
    torch.manual_seed(seed)
    found = [torch.randn(batch, 3, *size) for _ in range(count)]
    return [image.contiguous(memory_format=torch.channels_last) for image in found]


@torch.inference_mode(False)
def packed(cfg, real='float32'):
    calibration = images(2) if real == 'int8' else None
    return pack(trained_model(cfg), real, calibration)


@torch.inference_mode(False)
def plain(**arguments):
    """Return a small packed network that is no model of a host."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.PReLU()),
        *(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        nn.Conv2d(16, 8, 1),
    )
    surge_mm.binarize(model, [dict(name='3', to='binary'), dict(to='keep')], **arguments)
    return pack(model)


def same_bits(found, expected):
    assert module.is_same(found, expected)


def replays(network):
    """Return whether the network has operations for the inputs that it has seen."""
    return any(capture is not None and capture.program for capture in network._kept.values())


@pytest.fixture
def calls(monkeypatch):
    """Record the classes of modules that are called."""
    found = []
    forward = nn.Module.__call__
    monkeypatch.setattr(
        nn.Module,
        '__call__',
        lambda self, *a, **k: found.append(type(self)) or forward(self, *a, **k),
    )
    return found


@torch.inference_mode()
@pytest.mark.parametrize(
    ('config', 'real', 'threads'),
    [
        *((detector_config, real, 1) for real in ('float32', 'int8', 'bfloat16')),
        *((classifier_config, real, 1) for real in ('float32', 'int8')),
        (detector_config, 'int8', 2),
    ],
)
def test_outputs_are_those_of_the_modules_to_the_bit(config, real, threads, calls):
    model = packed(config(), real)
    network = CapturedNetwork(model, lambda x: network_forward(model, x)())
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for batch, size in ((1, (40, 56)), (3, (33, 64))):
            given = images(5, batch, size)
            expected = [model(x, mode='tensor') for x in given]
            found = []
            for x in given:
                calls.clear()
                found.append(network(x))
            assert not calls  # the modules do not run
            # compared last, so that a replay that wrote into earlier outputs is seen
            for one, other in zip(found, expected, strict=True):
                same_bits(one, other)
    finally:
        torch.set_num_threads(before)
    if config is detector_config and real == 'int8':
        for capture in network._kept.values():
            assert all(isinstance(call, Call) for call in capture.program.calls)


@pytest.mark.parametrize('mode', [torch.no_grad, torch.inference_mode])
def test_outputs_may_be_changed_where_those_of_the_modules_may_be(mode):
    model = packed(detector_config())
    network = CapturedNetwork(model)
    with mode():
        for x in images(4):
            expected, found = model(x, mode='tensor'), network(x)
    for one, other in zip(tree_leaves(expected), tree_leaves(found), strict=True):
        assert one.is_inference() == other.is_inference()
        if not one.is_inference():
            other.add_(1)
            assert torch.equal(one + 1, other)


@torch.inference_mode()
def test_threads_of_python_may_run_a_network_at_the_same_time():
    model = packed(detector_config())
    network, given = CapturedNetwork(model), images(8)
    expected = [model(x, mode='tensor') for x in given]
    network(given[0]), network(given[0])
    wrong = []

    def run(x, other):
        with torch.inference_mode():
            wrong.extend(i for i in range(30) if not module.is_same(network(x), other))

    workers = [
        threading.Thread(target=run, args=pair) for pair in zip(given, expected, strict=True)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


@torch.inference_mode()
@pytest.mark.parametrize('real', ['float32', 'int8'])
def test_new_tensors_of_a_model_are_used(real, calls):
    model, other = packed(detector_config(), real), packed(detector_config(), real)
    for buffer in other.buffers():
        if buffer.is_floating_point():
            buffer.mul_(0.75)
    other.load_state_dict(other.state_dict())  # calibration has prepared its tensors
    network, x = CapturedNetwork(model), images(1)[0]
    before = [network(x) for _ in range(3)][-1]
    model.load_state_dict(other.state_dict())
    expected = other(x, mode='tensor')
    assert not module.is_same(expected, before)
    for _ in range(4):
        calls.clear()
        same_bits(network(x), expected)
    assert not calls


@torch.inference_mode()
@pytest.mark.parametrize('name', ['0.weight', '1.running_mean', '6.bias'])
def test_a_tensor_that_is_changed_in_place_is_used(name):
    model, x = plain(), images(1)[0]
    network = CapturedNetwork(model)
    before = [network(x) for _ in range(3)][-1]
    assert replays(network)
    with torch.inference_mode(False), torch.no_grad():
        model.state_dict()[name].add_(0.5)
    expected = model(x)
    assert not module.is_same(expected, before)
    for _ in range(3):
        same_bits(network(x), expected)


@torch.inference_mode()
def test_hooks_of_modules_run():
    model, x, seen = plain(), images(1)[0], []
    network = CapturedNetwork(model)
    for _ in range(3):
        network(x)
    handle = model[3].register_forward_hook(lambda *_: seen.append(1))
    expected = model(x)
    same_bits(network(x), expected)
    assert len(seen) == 2
    handle.remove()
    same_bits(network(x), expected)
    assert len(seen) == 2


class OfValues(nn.Module):
    """Takes another way for another sum of the input."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.register_buffer('count', torch.zeros(()))

    def forward(self, x):
        if self.kind == 'number':
            return x * 2 if x.sum() > 0 else x * 3
        if self.kind == 'random':
            return torch.nn.functional.dropout(x, 0.5)
        if self.kind == 'shape':
            return x.flatten()[x.flatten() > 0]
        self.count += 1
        return x * self.count


@torch.inference_mode()
@pytest.mark.parametrize('kind', ['number', 'random', 'shape', 'counter'])
def test_operations_that_depend_on_values_are_left_to_the_modules(kind):
    with torch.inference_mode(False):
        model = nn.Sequential(plain(), OfValues(kind))
    network = CapturedNetwork(model)
    module._log_once.cache_clear()
    for i, x in enumerate(images(4)):
        network(x)
        torch.manual_seed(1)
        found = network(x + i - 2)
        if kind == 'counter':
            model[1].count -= 1
        torch.manual_seed(1)
        same_bits(found, model(x + i - 2))
    assert not replays(network)


def test_a_network_without_packed_layers_and_a_pass_with_gradients_run_by_modules():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    x = images(1)[0]
    with torch.inference_mode():
        network = CapturedNetwork(model)
        for _ in range(3):
            same_bits(network(x), model(x))
        assert not replays(network)
    network = CapturedNetwork(plain())
    for _ in range(3):
        network(x)
    assert not network._kept


@torch.inference_mode()
def test_only_so_many_sizes_are_kept_and_large_images_run_by_modules(monkeypatch):
    monkeypatch.setattr(module, 'SIZES_KEPT', 2)
    monkeypatch.setattr(module, 'MOST_PIXELS', 30 * 30)
    model = plain()
    network = CapturedNetwork(model)
    for size in (20, 21, 22, 31):
        for x in images(3, size=(size, size)):
            same_bits(network(x), model(x))
    assert [key[0][2] for key in network._kept] == [20, 21]


@torch.inference_mode()
def test_sizes_beyond_those_that_a_layer_keeps_are_captured(monkeypatch):
    monkeypatch.setattr(layer, 'MOST_SIZES', 1)
    geometry.geometry.cache_clear()
    model = packed(detector_config())
    network = CapturedNetwork(model)
    given = [images(1, size=(size, size))[0] for size in (32, 48, 64)]
    for x in given:
        network(x)
    for x in given:
        same_bits(network(x), model(x, mode='tensor'))
    assert len(network._kept) == 3
    assert all(capture.program for capture in network._kept.values())


@torch.inference_mode()
def test_a_further_size_is_recorded_after_many_calls_in_place_of_the_one_not_used_for_longest(
    monkeypatch,
):
    monkeypatch.setattr(module, 'SIZES_KEPT', 2)
    monkeypatch.setattr(module, 'CALLS_TO_REPLACE', 5)
    model = plain()
    network = CapturedNetwork(model)
    inputs = {size: images(1, size=(size, size))[0] for size in (20, 21, 22)}

    def call(size, times):
        for _ in range(times):
            same_bits(network(inputs[size]), model(inputs[size]))
        return [key[0][2] for key in network._kept]

    call(20, 2), call(21, 2)
    assert call(20, 1) == [21, 20] and call(22, 4) == [21, 20]
    assert call(22, 1) == [20, 22] and call(22, 1) == [20, 22]
    assert call(21, 4) == [20, 22]


@torch.inference_mode()
def test_a_network_is_recorded_once_a_hook_is_removed():
    model, x = plain(), images(1)[0]
    network = CapturedNetwork(model)
    handle = model[3].register_forward_hook(lambda *_: None)
    for _ in range(4):
        network(x)
    assert not network._kept
    handle.remove()
    same_bits(network(x), model(x))
    assert replays(network)


class WithConstant(nn.Module):
    """Returns its input and numbers that do not depend on it."""

    def forward(self, x):
        return x, torch.arange(4.0)


@torch.inference_mode()
def test_an_output_that_does_not_depend_on_the_input_is_new_in_each_call():
    network = CapturedNetwork(nn.Sequential(plain(), WithConstant()))
    for x in images(5):
        numbers = network(x)[1]
        assert numbers.tolist() == [0, 1, 2, 3]
        numbers += 100


@torch.inference_mode()
def test_results_of_operators_are_released_after_their_last_use():
    class Powers(nn.Module):
        def forward(self, x):
            for _ in range(20):
                x = torch.softmax(x, 1)
            return x

    model = nn.Sequential(plain(), Powers())
    network, most = CapturedNetwork(model), 0
    for x in images(3):
        same_bits(network(x), model(x))
    (replay,) = next(iter(network._kept.values()))._free
    steps = list(replay._steps)

    def count(step):
        nonlocal most
        step()
        most = max(most, len(replay._fresh))

    replay._steps = [partial(count, step) for step in steps]
    same_bits(network(x), model(x))
    assert len(replay.program.fresh) > 20 and most <= 4


def test_a_two_stage_detector_without_a_function_is_an_error():
    model = plain()
    model.roi_head = nn.Identity()
    with pytest.raises(UsageError, match='forward='):
        CapturedNetwork(model)
    CapturedNetwork(model, lambda x: x)


@torch.inference_mode()
def test_a_copy_records_its_own_model():
    model, x = plain(), images(1)[0]
    network = CapturedNetwork(model)
    for _ in range(3):
        expected = network(x)
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert other.model is not model
        for _ in range(3):
            same_bits(other(x), expected)


@torch.inference_mode()
def test_the_passes_of_norms_are_replayed():
    model = plain()
    assert any(isinstance(m.__dict__.get('forward'), NormPass) for m in model.modules())
    network, given = CapturedNetwork(model), images(3)
    for x in given:
        same_bits(network(x), model(x))
    assert replays(network)
