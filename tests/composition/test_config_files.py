"""Config files are found by name or path, and written into the folder of each variant."""

from pathlib import Path

import pytest
from mmengine.config import Config

from surge_mm.composition.config_files import (
    find_configs,
    find_recipe,
    remember_configs,
    write_configs,
)
from surge_mm.composition.variants import compose
from surge_mm.utils.errors import LaunchError

CONFIGS = Path(__file__).parents[2] / 'configs'


def test_configs_that_are_missing_or_have_the_same_name_are_refused(tmp_path):
    for folder in ('a', 'b'):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / 'ste.py').touch()
    with pytest.raises(LaunchError, match='different file names'):
        find_configs([str(tmp_path / folder / 'ste.py') for folder in ('a', 'b')])
    with pytest.raises(LaunchError, match='no such file'):
        find_configs([str(tmp_path / 'gone.py')])


def test_a_recipe_is_a_name_or_a_path(tmp_path):
    recipes = CONFIGS / '_base_' / 'recipes'
    small = tmp_path / 'small.py'
    small.touch()
    assert find_recipe(['resnet20_600e_cifar10']) == recipes / 'resnet20_600e_cifar10.py'
    assert find_recipe([str(small)]) == small
    with pytest.raises(LaunchError, match="'resnet2_600e_cifar10' is neither .* did you mean 'res"):
        find_recipe(['resnet2_600e_cifar10'])
    with pytest.raises(LaunchError, match='takes one recipe or config, got 2'):
        find_recipe(['resnet20_600e_cifar10', 'resnet18_600e_cifar10'])


def test_the_composed_config_of_a_leaf_is_called_by_the_new_method(tmp_path):
    leaf = CONFIGS / 'retinanet' / 'surge_retinanet-1bit_r18_fpn_1x_coco.py'
    files = write_configs(compose(leaf, ['ste']), {'ste': leaf}, tmp_path)
    assert files == {'ste': tmp_path / 'ste' / 'ste_retinanet-1bit_r18_fpn_1x_coco.py'}
    expected = Config.fromfile(leaf.with_name(files['ste'].name)).to_dict()
    assert expected.pop('conv_cfg') is not None
    assert Config.fromfile(files['ste']).to_dict() == expected


def test_a_folder_takes_no_runs_of_a_changed_config(tmp_path):
    origins = {'mine': tmp_path / 'mine.py'}
    for _ in range(2):
        remember_configs({'mine': Config({'lr': 0.1})}, origins, tmp_path / 'runs')
    with pytest.raises(LaunchError, match="runs/mine' holds runs of another config than .*mine.py"):
        remember_configs({'mine': Config({'lr': 0.2})}, origins, tmp_path / 'runs')
    assert Config.fromfile(tmp_path / 'runs' / 'mine' / 'mine.py').to_dict() == {'lr': 0.1}
