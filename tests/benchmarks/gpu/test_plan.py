"""The plan of the experiment on a GPU: the choice after development, the seeds and the sequence of tests."""

import hashlib
from itertools import product

import plan
import pytest

NEEDED = ('STE', 'SURGE', 'SURGE lite', 'gain', 'floor')


def first_results(families=NEEDED):
    """Accuracies with the first seeds in which the fourth try of a family is best, then the fifth and sixth."""
    order = [1, 2, 3, 9, 8, 7, 0, 0]
    return {
        arm.name: {seed: 10.0 * value + NEEDED.index(family) for seed in plan.FIRST_SEEDS}
        for family in families
        for arm, value in zip(plan.FAMILIES[family], order, strict=True)
    }


def add_more(results, value_of):
    for arms in plan.developed(results).values():
        for place, arm in enumerate(arms):
            results[arm.name] |= dict.fromkeys(plan.MORE_SEEDS, value_of(place))
    return results


def test_each_family_has_eight_tries_with_names_and_settings_of_their_own():
    for arms in plan.FAMILIES.values():
        assert len(arms) == 8 == len({arm.name for arm in arms})
        settings = [(arm.lr, str(arm.compensator), str(arm.activation)) for arm in arms]
        assert len(set(settings)) == 8


def test_the_choice_is_the_highest_mean_over_six_seeds_of_the_three_best_of_three():
    results = add_more(first_results(), lambda place: 100.0 if place == 2 else 0.0)
    choice = plan.choose(results)
    assert choice.seeds == (0, 1, 2, 3, 4, 5)
    assert choice.arms['STE'] == plan.FAMILIES['STE'][5]
    assert choice.means['STE'] == pytest.approx((70 + 100) / 2)
    assert (choice.default, choice.control, choice.other) == ('SURGE lite', 'floor', 'floor')
    assert list(choice.arms) == ['STE', 'SURGE lite', 'SURGE', 'gain', 'floor']


def test_a_choice_after_a_cut_off_uses_the_first_seeds_for_all_families():
    results = add_more(first_results(), lambda place: 100.0 if place == 2 else 0.0)
    del results[plan.FAMILIES['floor'][4].name][5]
    choice = plan.choose(results)
    assert choice.seeds == (0, 1, 2)
    assert choice.arms['STE'] == plan.FAMILIES['STE'][3]


def test_a_family_without_all_its_tries_is_left_out():
    results = first_results()
    del results[plan.FAMILIES['floor'][7].name][2]
    choice = plan.choose(results)
    assert choice.control == 'gain' and choice.other is None and 'floor' not in choice.arms


def test_too_little_development_is_an_error():
    with pytest.raises(ValueError, match='STE'):
        plan.choose(first_results(('SURGE', 'gain')))


def test_seeds_are_the_first_31_bits_of_the_hash():
    commit = '0123456789abcdef' * 2 + '01234567'
    expected = int(hashlib.sha256(f'{commit} 3'.encode()).hexdigest()[:8], 16) // 2
    seeds = plan.seeds_of(commit)
    assert len(set(seeds)) == 12 and seeds[3] == expected < 2**31
    with pytest.raises(ValueError, match='40'):
        plan.seeds_of('abc')


def p_by_counting(differences):
    own = abs(sum(differences))
    flips = list(product((-1, 1), repeat=len(differences)))
    sums = [abs(sum(s * d for s, d in zip(f, differences, strict=True))) for f in flips]
    return sum(one >= own - 1e-9 for one in sums) / len(flips)


@pytest.mark.parametrize('gain, count', [((1, 1, 1), 3), ((1, 0, 1), 2), ((0, 1, 1), 1)])
def test_the_sequence_stops_at_the_first_test_that_fails(gain, count):
    choice = plan.choose(first_results())
    noise = [0.3, -0.2, 0.1, 0.4, -0.1, 0.2, 0.5, -0.3]
    names = ('STE', plan.EQUAL_TIME, choice.control)
    top1 = {choice.default: [50.0] * 8}
    top1 |= {n: [50 - g - d for d in noise] for n, g in zip(names, gain, strict=True)}
    rows = plan.sequence_of_tests(choice, top1)
    assert [row['against'] for row in rows] == list(names[:count])
    for row, by in zip(rows, gain, strict=False):
        assert row['p'] == pytest.approx(p_by_counting([by + d for d in noise]))


def test_the_derived_eta_keeps_the_growth_of_depth_20():
    assert plan.derived_eta(0.1, 34) == pytest.approx(0.1 * 18 / 32)


@pytest.mark.parametrize('default, epochs', [('SURGE', 18), ('SURGE lite', 17)])
def test_ste_at_equal_time_has_at_least_the_time_of_the_default(default, epochs):
    assert plan.equal_time_epochs(default) == epochs
