"""The eta that two slopes of the loss ask for."""

import pytest
import torch

from surge_mm.analysis.gradients.probe import best_eta


def slopes_of(gradient, directions):
    """Slopes along each direction of a loss with this gradient."""
    return {
        name: {'true': float((gradient * d).sum() / d.norm()), 'predicted': float(d.norm())}
        for name, d in directions.items()
    }


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('eta', [-0.7, 0, 0.1, 3])
def test_it_is_that_of_a_loss_whose_gradient_is_the_corrected_one(eta, seed):
    torch.manual_seed(seed)
    g_b = torch.randn(4, 3, 5, 5, dtype=torch.float64)
    g_a = 2 * g_b + torch.randn_like(g_b)
    gradient = 0.3 * (g_b + eta * g_b.norm() / g_a.norm() * g_a)
    beside = torch.linalg.qr(
        torch.stack([t.flatten() for t in (g_b, g_a, torch.randn_like(g_b))]).T
    )
    gradient = gradient + beside.Q[:, 2].reshape(g_b.shape)  # a part that neither of the two has
    directions = {'g_b': g_b, 'g_a': g_a}
    assert best_eta(slopes_of(gradient, directions), directions) == pytest.approx(eta, abs=1e-9)


def test_it_does_not_exist_without_two_directions_that_differ_or_against_the_surrogate_gradient():
    g_b, g_a = torch.tensor([[1.0, 0.0], [0.5, 0.5]], dtype=torch.float64)
    directions = {'g_b': g_b, 'g_a': g_a}
    assert (
        best_eta(slopes_of(torch.tensor([0.0, 1.0], dtype=torch.float64), directions), directions)
        is None
    )
    assert (
        best_eta(slopes_of(torch.tensor([-1.0, 0.3], dtype=torch.float64), directions), directions)
        is None
    )
    known = slopes_of(g_b, directions)
    assert best_eta(known, directions) == pytest.approx(0, abs=1e-9)
    assert best_eta({'g_b': known['g_b']}, {'g_b': g_b}) is None
    assert best_eta({**known, 'g_a': None}, directions) is None
    parallel = {'g_b': g_b, 'g_a': 3 * g_b}
    assert best_eta(slopes_of(g_b, parallel), parallel) is None
