"""Graphs of binarized and of packed models, in evaluation, give the outputs of the models to the bit."""

import io

import pytest
import torch
from torch import nn

import surge_mm
from surge_mm.deploy import pack


def network(packed=False, **arguments):
    model = nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Conv2d(8, 8, 3, padding=1, padding_mode='reflect'), nn.AdaptiveAvgPool2d(1)),
        *(nn.Flatten(), nn.Linear(8, 5)),
    )
    surge_mm.binarize(model, [dict(name='9', to='binary')], **arguments)
    return pack(model) if packed else model.eval()


MODELS = {
    'default': {},
    'learned shift and two values': dict(
        binary=dict(activation=dict(type='RSign'), weight=dict(type='AdaBin'))
    ),
    'shortcuts': dict(shortcuts=True),
    'packed': dict(packed=True),
    'packed, two values': dict(packed=True, binary=dict(weight=dict(type='AdaBin'))),
}


@torch.no_grad()
def assert_same(graph, model, count=3):
    images = torch.randn(count, 3, 16, 16)
    assert torch.equal(graph(images), model(images))


@pytest.mark.parametrize(
    'name, strict', [*((name, False) for name in MODELS), ('default', True), ('packed', True)]
)
def test_an_exported_program_takes_batches_of_any_size_and_is_stored(name, strict):
    model, file = network(**MODELS[name]), io.BytesIO()
    sizes = ({0: torch.export.Dim('batch', min=1)},)
    images = torch.randn(2, 3, 16, 16)
    program = torch.export.export(model, (images,), dynamic_shapes=sizes, strict=strict)
    torch.export.save(program, file)
    file.seek(0)
    for graph in (program.module(), torch.export.load(file).module()):
        assert_same(graph, model)


@torch.no_grad()
@pytest.mark.parametrize('name', MODELS)
def test_a_trace_gives_the_outputs_of_the_model(name):
    model = network(**MODELS[name])
    assert_same(torch.jit.trace(model, torch.randn(3, 3, 16, 16)), model)


@pytest.mark.parametrize('name', MODELS)
def test_a_compiled_model_is_one_graph(name):
    torch._dynamo.reset()
    model = network(**MODELS[name])
    assert_same(torch.compile(model, backend='eager', fullgraph=True), model)


def test_a_model_of_timm_is_exported():
    timm = pytest.importorskip('timm')
    model = timm.create_model('test_resnet', num_classes=5)
    surge_mm.binarize(model)
    program = torch.export.export(model.eval(), (torch.randn(3, 3, 16, 16),))
    assert_same(program.module(), model)
