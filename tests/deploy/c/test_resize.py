"""Input of the network in C against cv2, MMCV and the pipeline of MMDetection."""

import ctypes

import cv2
import numpy as np
import pytest
from helpers.c_code import COMPILER, compiled, guarded, pointer
from helpers.packed_files import detector_config

from surge_mm.deploy.c.images import c_input, input_steps
from surge_mm.deploy.image_input import ImageInput
from surge_mm.launch.runner import build_model
from surge_mm.utils.errors import UsageError

pytestmark = pytest.mark.skipif(COMPILER is None, reason='no C compiler')

SIZES = [
    *((w, h) for w in (1, 17, 40, 64, 97, 128) for h in (1, 23, 64, 96, 131)),
    *((128, 256), (256, 192), (500, 333), (640, 480), (3, 50), (192, 128), (129, 64)),
]
KEEP = {'type': 'Resize', 'scale': (96, 64), 'keep_ratio': True}
PIPELINES = {
    'keep_ratio': ([KEEP], {}),
    'equal sides': ([{**KEEP, 'scale': (128, 128)}], {}),
    'exact': ([{**KEEP, 'scale': (64, 96), 'keep_ratio': False}], {'bgr_to_rgb': False}),
    'pad to a size': (
        [KEEP, {'type': 'Pad', 'size': (96, 96), 'pad_val': {'img': 114}}],
        {'pad_size_divisor': 1},
    ),
    'pad to a divisor': (
        [
            {**KEEP, 'type': 'FixScaleResize'},
            {'type': 'Pad', 'size_divisor': 16, 'pad_val': {'img': (1, 2, 3)}},
        ],
        {'pad_value': -0.5},
    ),
    'square': ([KEEP, {'type': 'Pad', 'pad_to_square': True, 'size_divisor': 24}], {}),
    'no double': ([KEEP], {}),
    'not resized': ([], {'mean': None, 'std': None, 'bgr_to_rgb': False}),
}
BAD = {
    'interpolation': ([{**KEEP, 'interpolation': 'bicubic'}], "interpolation='bicubic'"),
    'backend': ([{**KEEP, 'backend': 'pillow'}], "backend='pillow'"),
    'factor': ([{'type': 'Resize', 'scale_factor': 0.5}], 'scale_factor'),
    'edge': ([{'type': 'Pad', 'size': (9, 9), 'padding_mode': 'edge'}], "padding_mode='edge'"),
    'value': ([{'type': 'Pad', 'size': (9, 9), 'pad_val': {'img': 0.5}}], 'pad_val'),
    'two': ([KEEP, KEEP], 'Resize, Resize'),
    'unknown': ([{'type': 'RandomFlip', 'prob': 0.0}], 'test pipeline'),
    'no size': ([], '--shape'),
}
WRAPPER = """
int sizes_of(int width, int height, surge_sizes *out) { return surge_input_sizes(&input, width, height, out); }
void prepare(const surge_sizes *sizes, const uint8_t *pixels, int stride, float *out, void *workspace)
{
    surge_prepare(&input, sizes, pixels, stride, out, workspace);
}
"""


def detector(steps, preprocessor):
    """Return a detector with these steps in its test pipeline."""
    changes = {f'model.data_preprocessor.{key}': value for key, value in preprocessor.items()}
    cfg = detector_config(**changes)
    cfg.test_dataloader.dataset.pipeline = [
        {'type': 'LoadImageFromFile'},
        *steps,
        {'type': 'PackDetInputs'},
    ]
    model = build_model(cfg)
    model.cfg = cfg
    return model


class Sizes(ctypes.Structure):
    _fields_ = [
        (f'{of}_{side}', ctypes.c_int)
        for of in ('picture', 'resized', 'image', 'padded')
        for side in ('width', 'height')
    ]


class InC:
    def __init__(self, folder, steps, define=''):
        self.steps = steps
        self.library = compiled(
            folder, define, 'layers.h', 'resize.c', c_input(steps, 'input'), WRAPPER
        )

    def __call__(self, bgr):
        """Return the input of the network of an image, and its sizes; or None if it has none."""
        sizes = Sizes()
        height, width = bgr.shape[:2]
        if not self.library.sizes_of(width, height, ctypes.byref(sizes)):
            return None
        # rows end with other bytes
        rows = np.full((height, 3 * width + 5), 77, np.uint8)
        rows[:, : 3 * width] = bgr[..., ::-1].reshape(height, -1)
        pixels, _ = guarded(rows.size)
        pixels[:] = rows.reshape(-1)
        workspace, untouched = guarded(self.steps.workspace)
        shape = (sizes.padded_height, sizes.padded_width, 3)
        out, no_more = guarded(4 * int(np.prod(shape)))
        self.library.prepare(
            ctypes.byref(sizes),
            pointer(pixels),
            rows.shape[1],
            pointer(out),
            pointer(workspace),
        )
        untouched()
        no_more()
        return out.view(np.float32).reshape(shape), sizes


def picture(size, seed=0):
    width, height = size
    rng = np.random.default_rng(seed)
    choices = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return choices if width % 2 else np.where(choices > 127, 255, 0).astype(np.uint8)


@pytest.mark.parametrize('name', PIPELINES)
def test_input_equals_that_of_the_pipeline_to_the_bit(name, tmp_path):
    model = detector(*PIPELINES[name])
    expected = ImageInput(model)
    define = '#define SURGE_NO_DOUBLE' if name == 'no double' else ''
    in_c = InC(tmp_path, input_steps(model, largest=(640, 480)), define)
    compared = 0
    for seed, size in enumerate(SIZES):
        pixels = picture(size, seed)
        try:
            tensor, meta = expected.prepare(pixels)
        except cv2.error:  # a side of 0 pixels
            assert in_c(pixels) is None
            continue
        found, sizes = in_c(pixels)
        assert found.tobytes() == tensor[0].permute(1, 2, 0).contiguous().numpy().tobytes(), size
        assert (sizes.image_height, sizes.image_width) == tuple(meta['img_shape'])
        scale = sizes.resized_width / size[0], sizes.resized_height / size[1]
        assert scale == tuple(meta['scale_factor'])
        compared += 1
    assert compared >= 20
    assert in_c(picture((70000, 1))) is None


@pytest.mark.parametrize('name', BAD)
def test_a_step_without_a_form_in_c_is_named(name):
    steps, named = BAD[name]
    with pytest.raises(UsageError, match=named):
        input_steps(detector(steps, {}))
