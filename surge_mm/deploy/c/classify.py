"""Steps of a classifier of MMPretrain around its network: normalization before it, softmax behind it."""

from __future__ import annotations

from typing import Any

from surge_mm.datasets.evaluation_set import evaluation_pipeline
from surge_mm.deploy.c.images import InputSteps
from surge_mm.deploy.image_input import normalization_table


def classifier_steps(model: Any, largest: tuple[int, int]) -> InputSteps | None:
    """Return the steps from a picture to the image, without resizing. None if the model is no such classifier.

    Args:
        model (nn.Module): A model with its config in ``cfg``.
        largest (tuple[int, int]): Height and width of the largest picture.
    """
    from mmpretrain.models import ClsDataPreprocessor, ClsHead, ImageClassifier

    if not isinstance(model, ImageClassifier) or not isinstance(model.head, ClsHead):
        return None
    preprocessor = model.data_preprocessor
    is_softmax = type(model.head)._get_predictions is ClsHead._get_predictions
    if type(preprocessor) is not ClsDataPreprocessor or not is_softmax:
        return None
    # a pipeline may turn the channels, in place of the data preprocessor
    steps = evaluation_pipeline(model.cfg)
    is_rgb = preprocessor.to_rgb or any(step.get('to_rgb') for step in steps)
    divisor = preprocessor.pad_size_divisor
    height, width = (-(-side // divisor) * divisor for side in largest)
    return InputSteps(
        'SURGE_AS_IS',
        (0, 0),
        (0, 0),
        False,
        1,
        (0, 0, 0),
        divisor,
        float(preprocessor.pad_value),
        is_rgb,
        normalization_table(preprocessor).reshape(256, 3),
        ((width, height),),
    )
