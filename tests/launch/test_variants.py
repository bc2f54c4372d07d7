from pathlib import Path

import pytest

from surge_mm.launch.variants import compose
from surge_mm.utils.errors import LaunchError

METHODS = Path(__file__).resolve().parents[2] / 'configs' / '_base_' / 'methods'


def test_methods_that_are_unknown_or_repeated_are_refused(tmp_path):
    recipe = METHODS.parent / 'recipes' / 'resnet20_600e_cifar10.py'
    known = {path.stem: path for path in METHODS.glob('*.py')}
    with pytest.raises(
        LaunchError, match="'surg' is neither a file .* did you mean 'surge'.* adabin, "
    ):
        compose(recipe, ['ste', 'surg'], known=known)
    with pytest.raises(LaunchError, match=r"must have different names, got \['ste', 'ste'\]"):
        compose(recipe, ['ste', 'ste'], known=known)
    (tmp_path / 'torn.py').write_text('model = dict(')
    with pytest.raises(LaunchError, match=r"torn.py' cannot be read: SyntaxError"):
        compose(tmp_path / 'torn.py', ['ste'], known=known)
