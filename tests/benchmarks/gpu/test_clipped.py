"""The plan of the comparison with a clipped gradient."""

import clipped
import plan
import pytest


def results(means):
    """Return accuracies of development with a mean for each try, in the order of the tries."""
    arms = clipped.development_arms()[: len(means)]
    return {a.name: {s: m + s - 1 for s in range(3)} for a, m in zip(arms, means, strict=True)}


def test_arms_differ_in_compensator_learning_rate_and_clipping_alone():
    first, *others = clipped.development_arms()
    assert first.compensator is None and first.clip == 1
    same = {'name': first.name, 'compensator': None, 'lr': first.lr, 'clip': 1}
    assert len(others) == 9 and all(arm._replace(**same) == first for arm in others)
    assert [arm.clip for arm in others].count(None) == 2


def test_each_form_takes_the_rate_with_the_highest_mean():
    ste, norm = clipped.chosen_arms(results([53.0, 52.0, 10.0, 54.0, 55.0, 56.0, 55.5, 50.0]))
    assert (ste.compensator, ste.lr, ste.clip) == (None, 0.4, None)
    assert (norm.compensator['preserve_norm'], norm.lr) == (True, 0.8)


def test_a_choice_from_unfinished_development_is_an_error():
    found = results([53.0, 52.0, 10.0, 54.0, 55.0, 56.0, 55.5, 50.0])
    del found[clipped.development_arms()[5].name][2]
    with pytest.raises(ValueError, match='norm-preserving'):
        clipped.chosen_arms(found)


def test_the_stability_table_has_both_forms_in_four_networks_with_four_etas():
    cells = clipped.stability_cells()
    assert len(cells) == 2 * 4 * 4 and all(arm.clip == clipped.CLIP for arm in cells.values())
    assert len({arm.name for arm in cells.values()}) == len(cells)
    for (network, _, factor), arm in cells.items():
        assert arm.network == network and arm.compensator['eta'] == pytest.approx(0.1 * factor)
    assert {factor for _, _, factor in cells} == {0.1, 1, 3, 10} and plan.DEPTHS.keys() == {20, 34}
