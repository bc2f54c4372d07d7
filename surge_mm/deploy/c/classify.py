"""Steps of a classifier of MMPretrain around its network: test pipeline before it, softmax behind it."""

from __future__ import annotations

from typing import Any

from surge_mm.datasets.evaluation_set import evaluation_pipeline
from surge_mm.deploy.c.images import InputSteps, Size
from surge_mm.deploy.predict.image_input import normalization_table
from surge_mm.utils.errors import UsageError
from surge_mm.utils.hosts import default_scope

WITHOUT_EFFECT = ('LoadImageFromFile', 'NumpyToPIL', 'PILToNumpy', 'PackInputs')
"""Steps that do not change the size of a picture."""
RESIZERS = {'cv2': 'bilinear.c', 'pillow': 'pillow.c'}
"""Sources of the resizing by its backend."""


def classifier_steps(model: Any, largest: Size) -> InputSteps | None:
    """Return the steps from a picture to the image. None if the model is no such classifier.

    Args:
        model (nn.Module): A model with its config in ``cfg``.
        largest (Size): Height and width of the largest image.

    Raises:
        UsageError: if a step of the test pipeline has no form in C, or makes larger images.
    """
    from mmpretrain.models import ClsDataPreprocessor, ClsHead, ImageClassifier

    if not isinstance(model, ImageClassifier) or not isinstance(model.head, ClsHead):
        return None
    preprocessor = model.data_preprocessor
    is_softmax = type(model.head)._get_predictions is ClsHead._get_predictions
    if type(preprocessor) is not ClsDataPreprocessor or not is_softmax:
        return None
    steps = evaluation_pipeline(model.cfg)
    # a pipeline may turn the channels, in place of the data preprocessor
    is_rgb = preprocessor.to_rgb or any(step.get('to_rgb') for step in steps)
    divisor = preprocessor.pad_size_divisor
    height, width = (-(-side // divisor) * divisor for side in largest)
    resize, size, crop, resizer = _sizes(steps)
    made = crop if any(crop) else size if resize == 'SURGE_EXACT' else (0, 0)
    if made[0] > width or made[1] > height:
        raise UsageError(
            f'the largest image of {largest[0]}x{largest[1]} is smaller than that which the test pipeline makes of '
            f'pictures, {made[1]}x{made[0]}. Leave out --shape, or change the test pipeline'
        )
    return InputSteps(
        resize,
        size,
        (0, 0),
        False,
        1,
        (0, 0, 0),
        divisor,
        float(preprocessor.pad_value),
        is_rgb,
        normalization_table(preprocessor).reshape(256, 3),
        ((width, height),),
        crop,
        resizer,
    )


def _sizes(steps: list[Any]) -> tuple[str, Size, Size, str]:
    """Return ``resize``, ``size``, ``crop`` and ``resizer`` of the :class:`InputSteps` of a test pipeline."""
    from mmcv.transforms import CenterCrop, Resize
    from mmpretrain.datasets import ResizeEdge
    from mmpretrain.registry import TRANSFORMS

    resize, size, crop, resizer = 'SURGE_AS_IS', (0, 0), (0, 0), 'bilinear.c'
    with default_scope('mmpretrain'):
        built = [TRANSFORMS.build(dict(step)) for step in steps]
    for step in built:
        kind = type(step)
        name = kind.__name__
        if kind is CenterCrop and not step.auto_pad and crop == (0, 0):
            crop = step.crop_size
        elif kind in (Resize, ResizeEdge) and (resize, crop) == ('SURGE_AS_IS', (0, 0)):
            if step.interpolation != 'bilinear' or step.backend not in RESIZERS:
                raise UsageError(
                    f'{name} with interpolation={step.interpolation!r} and backend={step.backend!r} has no form in '
                    "C, which has 'bilinear' of 'cv2' and of 'pillow'"
                )
            resizer = RESIZERS[step.backend]
            if kind is ResizeEdge:
                ends = {'short': 'SHORT_EDGE', 'long': 'LONG_EDGE'}
                resize = f'SURGE_{ends.get(step.edge, step.edge.upper())}'
                size = step.scale, step.scale
            elif step.scale and not step.keep_ratio:
                resize, size = 'SURGE_EXACT', tuple(step.scale)
            elif step.scale:
                resize, size = 'SURGE_KEEP_RATIO', tuple(step.scale)
            else:
                raise UsageError(f'Resize with scale_factor={step.scale_factor!r} has no form in C')
        elif name not in WITHOUT_EFFECT:
            raise UsageError(
                f'{name} in the test pipeline has no form in C: at most one ResizeEdge or Resize, and one CenterCrop '
                'without auto_pad behind it, have'
            )
    return resize, size, crop, resizer
