"""A few cases of each damage of tests/helpers/bad_data; ``make stress`` has many."""

import random

import pytest
from helpers.bad_data import copy, make_good
from helpers.bad_data.cases import CASES, name_of, try_case
from helpers.bad_data.training import config_for, train_through


@pytest.fixture(scope='module')
def good(tmp_path_factory):
    return make_good(tmp_path_factory.mktemp('good') / 'set')


@pytest.mark.parametrize('layout', ['coco', 'voc'])
@pytest.mark.parametrize('crops', [False, True])
def test_the_set_is_trained_through_as_it_is_made(good, tmp_path, layout, crops):
    copy(good, tmp_path / 'set', layout, random.Random(0))
    assert train_through(config_for(tmp_path / 'set', layout, crops))


@pytest.mark.parametrize(('damage', 'layout'), CASES, ids=name_of)
def test_damaged_data_is_refused_by_name_or_trained_through(good, tmp_path, damage, layout):
    for seed in range(2):
        try_case(damage, layout, seed, good, tmp_path / str(seed) / 'set')
