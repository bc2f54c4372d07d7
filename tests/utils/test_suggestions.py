"""Suggestions for misspelt names."""

from surge_mm.utils.suggestions import (
    argument_names,
    closest_name,
    did_you_mean,
    is_one_edit_apart,
)


class Base:
    def __init__(self, width=1):
        self.width = width


class Branch(Base):
    def __init__(self, side, *, height=1, **kwargs):
        super().__init__(**kwargs)


def test_arguments_of_bases_are_included_where_they_are_passed_on():
    assert argument_names(Base) == ['width']
    assert argument_names(Branch) == ['side', 'height', 'width']
    assert argument_names(is_one_edit_apart) == ['name', 'known'] and argument_names(object) == []


def test_names_at_one_edit():
    for wrong in ('modl', 'modeel', 'mdoel', 'nodel', 'Model_', 'odel', 'model'):
        assert is_one_edit_apart(wrong, 'model'), wrong
    for other in ('mod', 'models_x', 'medol', 'ledom', 'node', ''):
        assert not is_one_edit_apart(other, 'model'), other


def test_the_closest_name_ignores_case_and_is_similar():
    assert closest_name('sgd', ['Adam', 'SGD']) == 'SGD'
    assert closest_name('wieght', ['weight', 'bias']) == 'weight'
    assert closest_name('AdaWm', ['Adam', 'AdamW']) == 'AdamW'
    assert closest_name('RessNet', ['ResNeSt', 'ResNet']) == 'ResNet'
    assert closest_name('momentum', ['weight', 'bias']) is None


def test_the_hint_lists_what_is_known():
    hint = "; did you mean 'weight'? Known: weight, bias"
    assert did_you_mean('wieght', ['weight', 'bias']) == hint
    assert did_you_mean('x', []) == '. Known: none'
