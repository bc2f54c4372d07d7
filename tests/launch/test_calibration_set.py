"""Images for the calibration, from the data sets of a config."""

import pytest
from helpers.bad_runs import LOADER, WHOLE
from mmengine.config import Config

from surge_mm.launch.calibration_set import CalibrationSet
from surge_mm.utils.errors import LaunchError


def points(number):
    return {'type': 'surge_mm.Points', 'number': number}


def config(dataset):
    return Config({**WHOLE, 'train_dataloader': {**LOADER, 'dataset': dataset}})


def test_images_are_spread_over_all_data_sets_of_a_loader():
    both = {'type': 'ConcatDataset', 'datasets': [points(3), points(5)]}
    wrapped = {'type': 'RepeatDataset', 'times': 2, 'dataset': both}
    for dataset in (both, wrapped):
        images = CalibrationSet(config(dataset))
        assert [x.item() for x, _ in images] == [0, 1, 2, 0, 1, 2, 3, 4]
        assert images.source == 'train_dataloader' and len(images) == 8
        assert [x.item() for x, _ in CalibrationSet(config(dataset), 4)] == [0, 2, 1, 3]
    with pytest.raises(LaunchError, match='--images 9: train_dataloader of the config has 8'):
        CalibrationSet(config(both), 9)
