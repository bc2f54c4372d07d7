"""Images that a predictor takes."""

import numpy as np
import pytest
from helpers.packed_files import classifier_config, trained_model
from mmengine.registry import init_default_scope

from surge_mm.deploy.predict.predictor import Predictor
from surge_mm.utils.errors import UsageError


@pytest.mark.parametrize(
    ('image', 'message'),
    [
        (np.zeros((32, 32, 3)), 'dtype float64, which must be uint8'),
        (np.zeros((32, 32), np.uint8), 'shape .*GRAY2BGR'),
        (np.zeros((32, 32, 4), np.uint8), 'shape .*alpha'),
        ('image.jpg', 'image is a str.*must be a NumPy array'),
    ],
)
def test_an_image_that_a_classifier_cannot_take_is_refused(image, message):
    cfg = classifier_config()
    cfg.test_dataloader.dataset.pipeline = [{'type': 'PackInputs'}]
    init_default_scope(cfg.default_scope)
    model = trained_model(cfg)
    model.cfg, model.dataset_meta = cfg, {}
    with pytest.raises(UsageError, match=message):
        Predictor(model).predict(image)
