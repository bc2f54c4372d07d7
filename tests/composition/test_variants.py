from pathlib import Path

import pytest

from surge_mm.composition.variants import compose
from surge_mm.utils.errors import LaunchError

CONFIGS = Path(__file__).parents[2] / 'configs'


def test_methods_that_are_unknown_or_repeated_are_refused():
    recipe = CONFIGS / '_base_' / 'recipes' / 'resnet20_600e_cifar10.py'
    with pytest.raises(
        LaunchError, match="'surg' is neither a file .* did you mean 'surge'.* adabin, "
    ):
        compose(recipe, ['ste', 'surg'])
    with pytest.raises(LaunchError, match=r"must have different names, got \['ste', 'ste'\]"):
        compose(recipe, ['ste', 'ste'])
