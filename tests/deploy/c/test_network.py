"""Maps of a network in C against those of the packed model."""

import ctypes
import shutil
import subprocess

import numpy as np
import pytest
import torch
from helpers.narrow import CONFIGS, NARROW, flat
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from surge_mm.deploy import pack
from surge_mm.deploy.c.export import export_c
from surge_mm.deploy.onnx.export import outputs_of
from surge_mm.launch.runner import build_model
from surge_mm.layers import SurgeConv2d
from surge_mm.utils.errors import UsageError

pytestmark = pytest.mark.skipif(shutil.which('cc') is None, reason='no C compiler')
FLAGS = ['-std=c99', '-Wall', '-Wextra', '-Werror', '-fPIC', '-shared']
LARGEST = (96, 128)


CONFIGS_OF = {
    'demo': ('demo/ste_fcos-1bit-distill_r18-light_10e_digits.py', {}),
    'retinanet': (
        'retinanet/ste_retinanet-1bit_r18_fpn_1x_coco.py',
        NARROW['retinanet-1bit_r18_fpn'],
    ),
    'rtmdet': ('rtmdet/ste_rtmdet-1bit_r18_1x_coco.py', NARROW['rtmdet-1bit_r18']),
    'reactnet': (
        'resnet/reactnet_resnet18_128e-step2_in1k.py',
        {'backbone': {'base_channels': 16}, 'head': {'in_channels': 128}},
    ),
}


def model_of(family, real='float32'):
    """Return a packed model with random weights and statistics of its norms."""
    path, changes = CONFIGS_OF[family]
    cfg = Config.fromfile(CONFIGS / path)
    cfg.merge_from_dict({f'model.{k}': v for k, v in flat(changes)}, allow_list_keys=True)
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = build_model(cfg)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
    images = [torch.randn(1, 3, *LARGEST)] if real == 'int8' else None
    return pack(model, real, images)


class Map(ctypes.Structure):
    _fields_ = [
        ('values', ctypes.POINTER(ctypes.c_float)),
        *((name, ctypes.c_int) for name in ('height', 'width', 'channels')),
    ]


class Network:
    """A compiled network."""

    def __init__(self, folder, made, *flags):
        library = folder / 'net.so'
        command = ['cc', '-O1', *FLAGS, *flags, str(folder / 'net.c'), '-o', str(library), '-lm']
        subprocess.run(command, check=True)
        self.library = ctypes.CDLL(str(library))
        self.memory = ctypes.create_string_buffer(made.memory)
        self.context = ctypes.create_string_buffer(64)
        size = ctypes.c_size_t(made.memory)
        assert self.library.net_init(self.context, self.memory, size) == 0

    def __call__(self, image, outputs):
        """Return the maps ``(C, H, W)`` of an image ``(1, 3, H, W)``, or an error."""
        values = np.ascontiguousarray(image[0].permute(1, 2, 0).numpy())
        pointer = values.ctypes.data_as(ctypes.c_void_p)
        maps = (Map * outputs)()
        code = self.library.net_forward(self.context, pointer, *values.shape[:2], maps)
        if code:
            return code
        shapes = [(m.height, m.width, m.channels) for m in maps]
        arrays = [np.ctypeslib.as_array(m.values, s) for m, s in zip(maps, shapes, strict=True)]
        return [torch.from_numpy(a.copy()).permute(2, 0, 1) for a in arrays]


@torch.no_grad()
def largest_difference(model, network, size):
    """Return the largest difference of a map, relative to its largest number."""
    image = torch.randn(1, 3, *size)
    expected = list(outputs_of(model, image).values())
    found = network(image, len(expected))
    pairs = [(e.reshape(f.shape), f) for e, f in zip(expected, found, strict=True)]
    return max(float((e - f).abs().max() / e.abs().max()) for e, f in pairs)


@pytest.mark.parametrize(
    ('family', 'real', 'sizes'),
    [
        ('demo', 'float32', ((64, 96), (37, 51))),
        ('demo', 'int8', ((64, 96), (37, 51))),
        ('retinanet', 'float32', ((32, 96), (65, 33))),
        ('rtmdet', 'float32', ((64, 96), (32, 128))),
        ('reactnet', 'float32', ((64, 96), (33, 65))),
    ],
)
def test_maps_equal_those_of_the_packed_model_for_any_size(tmp_path, family, real, sizes):
    model = model_of(family, real)
    network = Network(tmp_path, export_c(model, tmp_path / 'net.c', [LARGEST]))
    found = [largest_difference(model, network, size) for size in (LARGEST, *sizes)]
    assert max(found) == 0 if real == 'int8' else 0 < max(found) < 1e-5


def simple(*layers):
    """Return a packed network: a binary convolution with its norm, and these layers."""
    torch.manual_seed(0)
    return pack(nn.Sequential(SurgeConv2d(3, 40, 3, padding=1), nn.BatchNorm2d(40), *layers).eval())


def test_binary_layers_that_hand_over_signs_equal_packed_ones_to_the_bit(tmp_path):
    model = simple(SurgeConv2d(40, 16, 3, 2, padding=1), nn.PReLU(), SurgeConv2d(16, 7, 1))
    network = Network(tmp_path, export_c(model, tmp_path / 'net.c', [(9, 30), (20, 11)]))
    sizes = [(9, 30), (20, 11), (8, 10), (1, 1)]
    assert [largest_difference(model, network, size) for size in sizes] == [0] * 4


def test_an_unknown_operator_is_named_with_its_layer_and_nothing_is_written(tmp_path):
    model = simple(nn.Sequential(nn.Identity(), nn.GELU()))
    with pytest.raises(UsageError, match=r'2\.1: the operator gelu has no form in C'):
        export_c(model, tmp_path / 'net.c', [(8, 8)])
    assert not list(tmp_path.iterdir())


def test_a_stem_that_is_no_identifier_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="'my-net' .* no identifier of C"):
        export_c(simple(), tmp_path / 'my-net.c', [(8, 8)])


def test_wrong_arguments_in_c_return_errors(tmp_path):
    network = Network(tmp_path, export_c(simple(), tmp_path / 'net.c', [(8, 16)]))
    assert [network(torch.zeros(1, 3, *size), 1) for size in ((9, 16), (8, 17))] == [-2, -2]
    library, image, maps = network.library, ctypes.create_string_buffer(4), (Map * 1)()
    assert library.net_forward(network.context, image, 0, 5, maps) == -2
    assert library.net_forward(network.context, image, 5, -1, maps) == -2
    assert library.net_forward(network.context, None, 8, 8, maps) == -1
    assert library.net_forward(network.context, image, 8, 8, None) == -1
    assert library.net_forward(None, image, 8, 8, maps) == -1
    assert library.net_init(None, image, 4) == library.net_init(network.context, None, 4) == -1
    assert library.net_init(network.context, image, ctypes.c_size_t(4)) == -4
    assert library.net_forward(network.context, image, 8, 8, maps) == -1  # not initialized


def test_sizes_that_do_not_fit_the_strides_return_an_error(tmp_path):
    network = Network(tmp_path, export_c(model_of('rtmdet'), tmp_path / 'net.c', [LARGEST]))
    assert network(torch.zeros(1, 3, 33, 64), 6) == -2
