"""Models are imported on first access."""

import pytest

import surge_mm.models


@pytest.mark.parametrize('name', surge_mm.models.__all__)
def test_every_exported_name_exists(name):
    assert getattr(surge_mm.models, name).__name__ == name
    assert name in dir(surge_mm.models)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'surge_mm.models' has no attribute 'Resnet'"):
        _ = surge_mm.models.Resnet
