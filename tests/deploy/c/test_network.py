"""Maps and boxes of a model in C against those of the packed model."""

import ctypes

import numpy as np
import pytest
import torch
from helpers.c_code import COMPILER, compiled, pointer
from helpers.c_network import Box, Map, Network
from helpers.documents import ROOT, blocks
from helpers.narrow import CONFIGS, NARROW, flat
from helpers.packed_files import NARROW_FCOS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from surge_mm.deploy import Detector, pack
from surge_mm.deploy.c.export import export_c
from surge_mm.deploy.onnx.export import outputs_of
from surge_mm.deploy.predict.predictor import Predictor
from surge_mm.launch.runner import build_model
from surge_mm.layers import SurgeConv2d
from surge_mm.utils.errors import UsageError

pytestmark = pytest.mark.skipif(COMPILER is None, reason='no C compiler')
LARGEST = (96, 128)
NARROW_DEMO = {'test_cfg.score_thr': 0.0} | {
    key.removeprefix('model.'): value for key, value in NARROW_FCOS.items()
}


CONFIGS_OF = {
    'demo': ('demo/ste_fcos-1bit-distill_r18-light_10e_digits.py', NARROW_DEMO),
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
    torch.manual_seed(0)
    path, changes = CONFIGS_OF[family]
    cfg = Config.fromfile(CONFIGS / path)
    cfg.merge_from_dict({f'model.{k}': v for k, v in flat(changes)}, allow_list_keys=True)
    init_default_scope(cfg.default_scope)
    model = build_model(cfg)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
    images = [torch.randn(1, 3, *LARGEST)] if real == 'int8' else None
    model.cfg = cfg
    return pack(model, real, images)


@torch.no_grad()
def largest_difference(model, network, size):
    """Return the largest difference of a map, relative to its largest number."""
    image = torch.randn(1, 3, *size)
    expected = list(outputs_of(model, image).values())
    found = network(image, len(expected))
    pairs = [(e.reshape(f.shape), f) for e, f in zip(expected, found, strict=True)]
    return max(float((e - f).abs().max() / e.abs().max()) for e, f in pairs)


@pytest.mark.parametrize(
    ('family', 'sizes'),
    [
        ('retinanet', ((32, 96), (65, 33))),
        ('rtmdet', ((64, 96), (32, 128))),
    ],
)
def test_maps_equal_those_of_the_packed_model_for_any_size(tmp_path, family, sizes):
    model = model_of(family)
    network = Network(tmp_path, model, LARGEST)
    found = [largest_difference(model, network, size) for size in (LARGEST, *sizes)]
    assert 0 < max(found) < 1e-5


def simple(*layers):
    """Return a packed network: a binary convolution with its norm, and these layers."""
    torch.manual_seed(0)
    return pack(nn.Sequential(SurgeConv2d(3, 40, 3, padding=1), nn.BatchNorm2d(40), *layers).eval())


def test_binary_layers_that_hand_over_signs_equal_packed_ones_to_the_bit(tmp_path):
    model = simple(SurgeConv2d(40, 16, 3, 2, padding=1), nn.PReLU(), SurgeConv2d(16, 7, 1))
    network = Network(tmp_path, model, (20, 30))
    sizes = [(9, 30), (20, 11), (8, 10), (1, 1)]
    assert [largest_difference(model, network, size) for size in sizes] == [0] * 4


def test_export_in_inference_mode_gives_the_same_file(tmp_path):
    model = simple(nn.MaxPool2d(2), nn.Conv2d(40, 5, 3))
    expected = export_c(model, tmp_path / 'net.c', (8, 8))
    with torch.inference_mode():
        assert export_c(model, tmp_path / 'net.c', (8, 8)) == expected


def test_an_unknown_operator_is_named_with_its_layer_and_nothing_is_written(tmp_path):
    model = simple(nn.Sequential(nn.Identity(), nn.GELU()))
    with pytest.raises(UsageError, match=r'2\.1: the operator gelu has no form in C'):
        export_c(model, tmp_path / 'net.c', (8, 8))
    assert not list(tmp_path.iterdir())


def test_a_stem_that_is_no_identifier_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="'my-net' .* first part of names in C"):
        export_c(simple(), tmp_path / 'my-net.c', (8, 8))


def test_wrong_arguments_in_c_return_errors(tmp_path):
    network = Network(tmp_path, simple(), (8, 16))
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


class Pyramid(nn.Module):
    def forward(self, x):
        half = nn.functional.max_pool2d(x, 2)
        return torch.cat([x, nn.functional.interpolate(half, scale_factor=2.0)], 1)


class Excitation(nn.Module):
    def forward(self, x):
        return x * nn.functional.relu6(nn.functional.adaptive_avg_pool2d(x, 1))


def test_a_product_of_channels_compiles_without_a_warning(tmp_path):
    model = simple(Excitation())
    assert largest_difference(model, Network(tmp_path, model, (16, 16)), (16, 16)) < 1e-5


def test_sizes_that_do_not_fit_the_strides_return_an_error(tmp_path):
    model = simple(Pyramid())
    network = Network(tmp_path, model, (16, 32))
    assert largest_difference(model, network, (16, 8)) == 0
    assert network(torch.zeros(1, 3, 15, 8), 1) == -2
    with pytest.raises(
        UsageError, match='does not run on an image of 15x8 alone.*size that its strides divide'
    ):
        export_c(model, tmp_path / 'net.c', (15, 8))


def test_a_kernel_larger_than_its_map_returns_an_error(tmp_path):
    torch.manual_seed(0)
    first = nn.Conv2d(3, 3, 5, stride=3, dilation=2)  # 9 rows
    model = pack(nn.Sequential(first, SurgeConv2d(3, 8, 3, padding=1)).eval())
    network = Network(tmp_path, model, (12, 66))
    assert largest_difference(model, network, (9, 64)) < 1e-5
    sizes = [(8, 64), (7, 64), (12, 8), (12, 7)]
    assert [network(torch.zeros(1, 3, *size), 1) for size in sizes] == [-2] * 4


class NormOnItself(nn.Module):
    """``norm(x) + x`` behind a pool, with which no convolution can compute it."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.norm = nn.MaxPool2d(2), nn.BatchNorm2d(40)
        nn.init.normal_(self.norm.weight)

    def forward(self, x):
        x = self.pool(x)
        return self.norm(x) + x


def test_a_norm_that_is_added_to_its_input_does_not_overwrite_it(tmp_path):
    model = simple(NormOnItself(), SurgeConv2d(40, 8, 3, padding=1))
    network = Network(tmp_path, model, (16, 16))
    assert largest_difference(model, network, (16, 16)) < 1e-5


class OneChannel(nn.Module):
    """Maps of one channel, as those of spatial attention, and a binary layer."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.mix, self.one = nn.Conv2d(3, 1, 1), nn.Conv2d(1, 1, kernel, padding=kernel // 2)
        self.binary = SurgeConv2d(1, 8, 3, padding=1)

    def forward(self, x):
        x = self.one(self.mix(x))
        return x, self.binary(x)


@pytest.mark.parametrize('real', ['float32', 'int8'])
@pytest.mark.parametrize('kernel', [2, 3])
def test_a_convolution_of_one_channel_is_that_of_the_packed_model(tmp_path, kernel, real):
    torch.manual_seed(0)
    images = [torch.randn(2, 3, 12, 12)] if real == 'int8' else None
    model = pack(OneChannel(kernel).eval(), real, images)
    network = Network(tmp_path, model, (12, 12))
    assert largest_difference(model, network, (12, 12)) < 1e-5


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    """Return the detector of the demo in int8, whose outputs do not depend on the order of sums."""
    model = model_of('demo', 'int8')
    return Detector(model, channel_order='rgb'), Network(tmp_path_factory.mktemp('net'), model)


def test_maps_of_layers_in_int8_equal_those_of_the_packed_model_to_the_bit(digits):
    detector, network = digits
    found = [largest_difference(detector.model, network, size) for size in (LARGEST, (37, 51))]
    assert found == [0, 0]


def test_boxes_are_those_of_the_detector_for_pictures_of_any_size(digits):
    detector, network = digits
    generator = np.random.default_rng(0)
    for height, width in [(128, 128), (96, 200), (311, 57), (1, 1), (40, 40)]:
        rgb = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        expected, (boxes, scores, labels) = detector(rgb), network.detect(rgb, 200)
        assert len(boxes) == len(expected.boxes) > 0
        order, other = (
            np.lexsort([*b.round(1).T, ls]) for b, ls in [(boxes, labels), expected[::2]]
        )
        np.testing.assert_allclose(boxes[order], expected.boxes[other], atol=0.01)
        np.testing.assert_allclose(scores[order], expected.scores[other], atol=1e-4)


def test_wrong_pictures_return_errors(digits):
    network = digits[1]
    rgb, boxes = ctypes.create_string_buffer(300), (Box * 1)()
    detect, context = network.library.net_detect, network.context
    assert detect(context, rgb, 10, 10, 30, boxes, 1) == 1
    assert (
        detect(context, rgb, 10, 10, 29, boxes, 1)
        == detect(context, rgb, 10, 1, -30, boxes, 1)
        == -3
    )
    assert [detect(context, rgb, *size, 30, boxes, 1) for size in ((0, 9), (9, -1))] == [-2, -2]
    assert detect(context, rgb, 1 << 20, 1, 3 << 20, boxes, 1) == -2
    assert (
        detect(context, None, 9, 9, 27, boxes, 1) == detect(context, rgb, 9, 9, 27, None, 1) == -1
    )
    assert detect(context, rgb, 10, 10, 30, boxes, -1) == -5
    assert detect(context, rgb, 10, 10, 30, boxes, 0) == 0


def test_a_detector_with_two_stages_is_named(tmp_path):
    (path,) = CONFIGS.glob('faster_rcnn/ste_faster-rcnn-1bit_r18_fpn_1x_coco.py')
    cfg = Config.fromfile(path)
    narrow = {f'model.{k}': v for k, v in flat(NARROW['faster-rcnn-1bit_r18_fpn'])}
    cfg.merge_from_dict(narrow, allow_list_keys=True)
    init_default_scope(cfg.default_scope)
    with pytest.raises(UsageError, match='FasterRCNN has several stages'):
        export_c(pack(build_model(cfg)), tmp_path / 'net.c', LARGEST)


def test_maps_and_scores_are_those_of_the_classifier(tmp_path):
    model = model_of('reactnet')
    _, resize, crop, _ = model.cfg.test_dataloader.dataset.pipeline
    resize.scale, crop.crop_size, model.dataset_meta = 73, 64, {}
    network = Network(tmp_path, model, (64, 64))
    assert 0 < largest_difference(model, network, (33, 64)) < 1e-5
    rgb = np.random.default_rng(0).integers(0, 256, (90, 80, 3), dtype=np.uint8)
    expected = Predictor(model).predict(rgb[..., ::-1]).pred_score.numpy()
    scores = np.empty(1000, np.float32)
    classify, arguments = network.library.net_classify, (80, 90, 240, pointer(scores))
    assert classify(network.context, pointer(rgb), *arguments) == 0
    np.testing.assert_allclose(scores, expected, rtol=1e-4)
    assert classify(network.context, pointer(rgb), 0, 90, 240, pointer(scores)) == -2
    assert classify(network.context, pointer(rgb), 80, 90, 239, pointer(scores)) == -3
    assert classify(network.context, None, *arguments) == -1


def test_the_program_in_the_docs_compiles_and_finds_the_boxes(digits, tmp_path):
    network = digits[1]
    (example,) = blocks(ROOT / 'docs/without_pytorch.md', 'c')
    header = network.made.header.replace('NET_', 'DETECTOR_').replace('net_', 'detector_')
    (tmp_path / 'detector.h').write_text(header)
    # the functions of the library that is compiled already
    names = ''.join(
        f'#define detector_{name} net_{name}\n' for name in ('init', 'detect', 'classes')
    )
    library = compiled(tmp_path, names + example, libraries=[network.library._name])
    rgb = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    assert library.find(pointer(rgb), 128, 96) == len(network.detect(rgb, 50)[0]) > 0


FUNCTIONS = {
    'silu': nn.SiLU(),
    'hardswish': nn.Hardswish(),
    'hardsigmoid': nn.Hardsigmoid(),
    'sigmoid': nn.Sigmoid(),
}


def test_functions_of_single_numbers(tmp_path):
    x = torch.cat(
        [torch.linspace(-120, 120, 4001), torch.tensor([-0.0, torch.inf, -torch.inf, torch.nan])]
    )
    out, shape = torch.empty_like(x), (ctypes.c_int * 3)(1, len(x), 1)
    calls = (
        f'SURGE_EACH(surge_{name})\nvoid call_{name}(const int *s, const float *x, float *out)\n'
        f'{{ surge_shape shape = {{s[0], s[1], s[2]}}; surge_{name}_each(shape, x, out); }}'
        for name in FUNCTIONS
    )
    library = compiled(tmp_path, 'layers.h', 'threads.c', 'steps.c', 'cpu.c', 'functions.c', *calls)
    for name, function in FUNCTIONS.items():
        library[f'call_{name}'](shape, pointer(x.numpy()), pointer(out.numpy()))
        torch.testing.assert_close(out, function(x), rtol=3e-7, atol=1e-30, equal_nan=True)
