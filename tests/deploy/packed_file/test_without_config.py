"""Packed files of models that no config built. The model is given when the file is loaded."""

import copy
import re

import pytest
import torch
from helpers.packed_files import changed
from mmengine.config import Config
from torch import nn

import surge_mm
from surge_mm.deploy import PackedConv2d, load_packed, pack, save_packed
from surge_mm.utils.errors import CheckpointError, UsageError


def network(width=8, stride=1, **settings):
    layers = (
        *(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()),
        *(nn.Conv2d(width, width, 3, stride, 1), nn.BatchNorm2d(width), nn.ReLU()),
        *(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5)),
    )
    model = nn.Sequential(*layers)
    surge_mm.binarize(model, **settings)
    return model


@pytest.fixture
def images():
    return torch.randn(4, 3, 10, 10)


@pytest.fixture
def saved(tmp_path, images):
    """Return the path of a packed file and the outputs of the trained model."""
    model = network()
    for _ in range(3):
        model(images)  # statistics of the batch norms
    model.eval().to(memory_format=torch.channels_last)  # as real convolutions are in packed models
    with torch.no_grad():
        expected = model(images)
    save_packed(pack(model), tmp_path / 'model.safetensors')
    return tmp_path / 'model.safetensors', expected


@torch.no_grad()
@pytest.mark.parametrize('packed', [False, True])
def test_a_given_model_gets_the_outputs_of_the_trained_one(saved, images, packed, caplog) -> None:
    path, expected = saved
    model = network()
    assert not torch.equal(model.eval()(images), expected)
    loaded = load_packed(path, model=pack(model) if packed else model)
    assert loaded is model and not loaded.training and isinstance(model[3], PackedConv2d)
    assert torch.equal(loaded(images), expected)
    assert not caplog.records


@torch.no_grad()
def test_a_model_of_timm_is_saved_and_loaded(tmp_path) -> None:
    timm = pytest.importorskip('timm')

    def make():
        model = timm.create_model('resnet18', num_classes=10)
        surge_mm.binarize(model)
        return model.eval()

    model = make().to(memory_format=torch.channels_last)
    images = torch.randn(2, 3, 64, 64)
    expected = model(images)
    save_packed(pack(model), tmp_path / 'model.safetensors')
    assert torch.equal(load_packed(tmp_path / 'model.safetensors', model=make())(images), expected)
    assert (tmp_path / 'model.safetensors').stat().st_size < 4 * 11.2e6 / 8


def test_a_file_without_config_needs_the_model(saved) -> None:
    with pytest.raises(
        CheckpointError, match=r"'torch.nn.modules.container.Sequential'.*model=model"
    ):
        load_packed(saved[0])


@pytest.mark.parametrize(
    'model, error, message',
    [
        (
            lambda: network(width=16),
            CheckpointError,
            "given model, packed.*differ, first: '0.weight'",
        ),
        (lambda: nn.Linear(2, 2), UsageError, 'Linear has no binary layer'),
        (
            lambda: network(rules=[dict(name='3', to='keep')]),
            CheckpointError,
            'Build and binarize it as the saved one',
        ),
    ],
    ids=['width', 'full precision', 'rules'],
)
def test_another_model_is_an_error(saved, model, error, message) -> None:
    given = model()
    before = copy.deepcopy(given.state_dict())
    with pytest.raises(error, match=message):
        load_packed(saved[0], model=given)
    after = given.state_dict()  # it can still be trained
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    'arguments, given',
    [
        (dict(stride=2), 'stride=\\(2, 2\\)'),
        (dict(binary=dict(pad_value=1)), 'pad_value=1'),
    ],
    ids=str,
)
def test_what_tensors_do_not_show_is_a_warning(saved, arguments, given, monkeypatch) -> None:
    warned = []
    monkeypatch.setattr('surge_mm.deploy.packed_file.save_load.warn', warned.append)
    load_packed(saved[0], model=network(**arguments))
    (message,) = warned
    assert re.search(f'differs from the saved one.*{given}', message), message


def test_a_config_without_a_model_names_the_way_out(tmp_path) -> None:
    with pytest.raises(UsageError, match='cfg has no model.*pass None instead'):
        save_packed(pack(network().eval()), tmp_path / 'model.safetensors', Config({}))


def test_a_damaged_description_is_an_error(saved) -> None:
    path = changed(saved[0], config=lambda config: config.pop('structure'))
    with pytest.raises(CheckpointError, match='its config must be a dict with the keys'):
        load_packed(path, model=network())


def test_a_model_that_is_not_passed_by_name_is_refused(tmp_path):
    def make():
        model = nn.Sequential(nn.Conv2d(8, 8, 3))
        surge_mm.binarize(model)
        return model

    packed, path = pack(make()), tmp_path / 'a.safetensors'
    save_packed(packed, path)
    with pytest.raises(
        UsageError, match=r'is a model. Pass it by name: load_packed\(path, model=model\)'
    ):
        load_packed(path, make())
    (tmp_path / 'b.safetensors').write_text('no packed model')
    with pytest.raises(
        CheckpointError, match=r'Make one: surge_mm.deploy.save_packed\(model, path\), or'
    ):
        load_packed(tmp_path / 'b.safetensors')
