"""Errors of a test pipeline. The inputs themselves are compared with those of the host in test_detector.py."""

import cv2
import numpy as np
import pytest

from surge_mm.deploy.predict.image_input import resizable
from surge_mm.utils.errors import UsageError

IMAGE = np.zeros((3, 900, 3), np.uint8)


def test_a_side_of_no_pixel_is_an_error_that_names_the_image():
    for image, message in (('a.png', 'a.png: .* Crop it'), (IMAGE.shape, '3 x 900 pixels')):
        with pytest.raises(UsageError, match=message), resizable(image):
            cv2.resize(IMAGE, (128, 0))


def test_other_errors_of_opencv_remain():
    with pytest.raises(cv2.error), resizable('a.png'):
        cv2.cvtColor(IMAGE[..., :2], cv2.COLOR_BGR2RGB)
