"""Input of the network in C against cv2, MMCV and the pipeline of MMDetection."""

import pytest
from helpers.c_code import COMPILER
from helpers.c_pictures import InC, picture
from helpers.packed_files import detector_config

from surge_mm.deploy.c.images import input_steps
from surge_mm.deploy.predict.image_input import ImageInput
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
        except UsageError as error:
            assert 'less than one pixel' in str(error)
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
