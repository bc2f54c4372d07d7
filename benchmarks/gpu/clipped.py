"""The plan of a second comparison: norm-preserving SURGE lite against STE, with a clipped gradient.

It follows that of ``plan.py``, whose default is not stable at three times its eta. The recipe, the images and the seeds
of development are the same. The gradient of all parameters is scaled to a norm of at most 1. ``experiment.py`` runs it.

**Stability**: norm-preserving SURGE lite and SURGE as published with eta at 0.1, 1, 3 and 10 times 0.1, two epochs.

**Development**, on the validation images with the seeds 0 to 2: the learning rates 0.4, 0.8 and 1.6 for STE and for
norm-preserving SURGE lite at eta 0.1. Each takes the rate with the highest mean. SURGE lite and SURGE at 0.4 are
beside. 1.6 was added when STE had been better at 0.8 than at 0.4 with seed 0, and 0.4 without clipping, for both forms,
when STE had been worse with clipping.

**Test**: twelve seeds from the hash of the commit of this plan, 12 epochs; the test images are read once, after the
last one. One two-sided exact sign-flip test of the paired differences at 0.05. Equal time is not tested again: there
STE was better than SURGE lite by two points, which takes as many convolutions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import plan
from arms import Arm

CLIP = 1.0
"""Largest norm of the gradient. In the first two epochs of STE, the norm is above it in the warm-up alone."""
ETA = 0.1
RATES = (0.4, 0.8, 1.6)
FORMS: dict[str, dict[str, Any] | None] = {
    'STE': None,
    'norm-preserving SURGE lite': {'eta': ETA, 'tied': True, 'preserve_norm': True},
}
"""Compensators of the two forms that are compared."""
BESIDE: dict[str, dict[str, Any]] = {
    'SURGE lite': {'eta': ETA, 'tied': True},
    'SURGE': {'eta': ETA},
}


def clipped_arm(form: str, rate: float = RATES[0]) -> Arm:
    """Return a form with a clipped gradient and a learning rate."""
    compensator = {**FORMS, **BESIDE}[form]
    return Arm(f'{form}, clipped, lr {rate:g}', compensator, lr=rate, clip=CLIP)


def tries(form: str) -> list[Arm]:
    """Return what is tried of a form: clipped at each rate, and not clipped at the first."""
    whole = clipped_arm(form)._replace(name=f'{form}, lr {RATES[0]:g}', clip=None)
    return [*(clipped_arm(form, rate) for rate in RATES), whole]


def development_arms() -> list[Arm]:
    """Return the tries of both forms, and the forms beside them."""
    return [*(arm for form in FORMS for arm in tries(form)), *map(clipped_arm, BESIDE)]


def chosen_arms(accuracies: plan.Accuracies) -> list[Arm]:
    """Return the try of each form with the highest mean of development; raise ValueError where a run is missing.

    Args:
        accuracies: Accuracy by name of the arm and seed.
    """
    chosen = []
    for form in FORMS:
        arms = tries(form)
        if not plan.has(accuracies, arms, plan.FIRST_SEEDS):
            raise ValueError(
                f'development of {form} lacks runs: run the stage clipped_development first'
            )
        chosen.append(max(arms, key=lambda arm: plan.mean(accuracies, arm, plan.FIRST_SEEDS)))
    return chosen


def stability_cells() -> Mapping[tuple[str, str, float], Arm]:
    """Return the arms of the stability table by network, form and factor of eta."""
    forms = {form: (clipped_arm(form), ETA) for form in ('norm-preserving SURGE lite', 'SURGE')}
    depths = plan.DEPTHS.values()
    return {key: arm for prefix in depths for key, arm in plan.cells_of(forms, prefix).items()}
