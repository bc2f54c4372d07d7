"""The files of the experiment on a GPU, and what the report says of them."""

import json

import plan
import pytest
from arms import ARMS
from report import difference, stable
from results import Results, accuracies


def finished(arm, seed, top1, loss=2.0):
    return {'arm': arm.name, 'seed': seed, 'loss': [2.5, loss], 'top1': top1}


def test_a_stage_goes_on_after_the_runs_of_its_file(tmp_path):
    arm = plan.with_eta(ARMS['SURGE'], 0.1 * 18 / 32 + 1e-17, 'ResNet-20, PReLU')
    about = {'card': 'one', 'choice': {'means': {'STE': 50 / 3}}, 'seeds': (1, 2)}
    path = tmp_path / 'depth.json'
    Results(path, about).add([arm], [finished(arm, 1, 40.0, float('nan'))])
    again = Results(path, about | {'card': 'another'})
    assert not again.lacks(arm, 1) and again.lacks(arm, 2)
    again.add([arm], [finished(arm, 2, 41.0)])
    assert accuracies(path) == {arm.name: {1: 40.0, 2: 41.0}}
    runs = json.loads(path.read_text())['runs']
    assert runs[0]['loss'] == [2.5, None]
    assert [run['card'] for run in runs] == ['one', 'another']


def test_runs_of_another_choice_or_of_other_arms_are_not_mixed(tmp_path):
    path = tmp_path / 'test.json'
    Results(path, {'card': 'one', 'choice': 'a'}).add(
        [ARMS['STE']], [finished(ARMS['STE'], 1, 40.0)]
    )
    with pytest.raises(ValueError, match='choice'):
        Results(path, {'card': 'one', 'choice': 'b'})
    with pytest.raises(ValueError, match='arm STE'):
        Results(path, {'card': 'one', 'choice': 'a'}).add([ARMS['STE']._replace(lr=0.3)], [])


def test_no_difference_is_an_interval_within_half_a_point():
    near, far = [0.1, -0.1, 0.2, -0.2], [0.4, 0.6, 0.2, 0.5]
    assert difference([0.0] * 4, near)[2] == 'no difference'
    assert difference([0.0] * 4, far)[2] == ''


@pytest.mark.parametrize(
    'loss, growth, expected',
    [
        ([2.0, 1.9], [1.8, 2.0, 2.1], True),
        ([2.0, 2.1], [1.8, 2.0, 2.1], False),
        ([2.0, None], [1.8, 2.0, None], False),
        ([2.0, 1.9], [1.8, 10.5, 2.1], False),
    ],
)
def test_stable_is_finite_with_a_falling_loss_and_a_growth_of_at_most_ten(loss, growth, expected):
    assert stable({'loss': loss, 'probe': growth}) == expected
