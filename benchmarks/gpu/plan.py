"""The plan of the experiment on the part of CIFAR-10: what is tried, how arms are chosen, how the test is judged.

It is committed before the first run. ``experiment.py`` runs it and ``report.py`` makes the tables.

**Recipe.** That of ``configs/cifar10_mini`` with PReLU: the first 20,000 training images, averaged to 16 x 16 pixels,
batches of 128, 12 epochs with one of warm-up, SGD. A rest that fills no batch is left out (156 steps an epoch; the
config has 157). float32, TF32 off. Accuracy is that of the last epoch. Nothing is stopped early.

**Development.** Training images 30,001 to 40,000 are the validation images. Each family has eight tries, which differ
in learning rate and in eta, gain, floor or k. All tries run with the seeds 0 to 2, then the three best of each family
with the seeds 3 to 5. The try of a family is the one of these three with the highest mean accuracy over the six seeds.
A tie goes to the earlier try of the list.

- If development is cut off before all three tries of all families have the seeds 3 to 5, the try with the highest mean
  over the seeds 0 to 2 is taken, for all families.
- A family that does not have all its tries with the seeds 0 to 2 by then is left out of the experiment.
- The *default* is the one of ``SURGE_FORMS`` whose try has the highest mean, and the *control* that of ``CONTROLS``.
- Losses that are not finite need no rule: the accuracy after the last epoch is then that of one class.

**Test.** Twelve seeds from the hash of the commit of this plan (:func:`seeds_of`); the test images are evaluated once,
after the last epoch. Arms: STE; STE with the epochs of the default's time, schedule stretched; the gain; the better of
floor and window; SURGE lite; SURGE as published; the default if it is none of these.

**Analysis.** A fixed sequence of two-sided exact sign-flip tests of paired differences, each at 0.05
(:func:`sequence_of_tests`): the default against STE at equal epochs, at equal time, and against the control. It stops
at the first test that fails; no claim is made for it and for those after it. For every other pair: mean difference
with its 95 % interval, no claim; "no difference" only where the interval lies within 0.5 points.

**Beside it**, seeds 0 to 5 and the validation images, no claim: STE and lite under AdamW, and eta by the depth of the
model at depth 34.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from arms import OPTIMIZER, Arm

from surge_mm.analysis.paired import sign_flip_p

EPOCHS, WARMUP, BATCH, PADDING = 12, 1, 128, 2
FIRST_SEEDS, MORE_SEEDS, FINALISTS = (0, 1, 2), (3, 4, 5), 3
SEEDS = FIRST_SEEDS + MORE_SEEDS
TEST_SEEDS = 12
LEVEL, NO_DIFFERENCE = 0.05, 0.5
LAYERS = {20: 18, 34: 32}
"""Binary layers of the networks, by depth."""
DEPTHS = {20: 'ResNet-20', 34: 'ResNet-34 of width 16'}
"""Names of the networks of the stability tables, by depth."""

TIME = {'STE': 201, 'SURGE': 301, 'SURGE lite': 274, 'SURGE frozen': 274}
"""Milliseconds of a step of ResNet-20 on a CPU, 16 pixels, batch 128, from docs/performance.md. A frozen branch was not
measured; it has the four convolutions of lite."""

FACTORS = {'weak': (1, 2), 'default': (0.5, 1, 2, 4), 'strong': (0.5, 1)}
"""Factors of the learning rate that are tried with the three strengths of a correction: eight tries."""

ETAS = {'weak': 0.05, 'default': 0.1, 'strong': 0.2}
GAIN_RATE = 0.77
"""ln(gain) / eta with the same growth of the gradient at the stem of ResNet-20 with PReLU: 1.08 for eta 0.1, as
``gradient_growth.py`` measures."""


def tries(name: str, key: str, values: Mapping[str, float], settings: Any) -> list[Arm]:
    """Return the eight tries of a family.

    Args:
        name: The family.
        key: What the values are called.
        values: The weak, the default and the strong value.
        settings: A function of a value that returns the keyword arguments of ``Arm``.
    """
    return [
        Arm(f'{name}, {key} {value}, lr {OPTIMIZER.lr * factor:g}', **settings(value))._replace(
            lr=OPTIMIZER.lr * factor
        )
        for strength, value in values.items()
        for factor in FACTORS[strength]
    ]


def branch(**form: Any) -> Any:
    return lambda eta: {'compensator': {'eta': eta, **form}}


def surrogate(key: str) -> Any:
    return lambda value: {'activation': {'type': 'ApproxSign', key: value}}


GAINS = {strength: round(math.exp(GAIN_RATE * eta), 3) for strength, eta in ETAS.items()}
WINDOWS = {1: (0.5, 1, 2), 2: (0.25, 0.5, 1), 3: (0.25, 0.5)}
"""Factors of the learning rate by k: the gradient grows by 2.7, 21 and 35 at the stem."""

FAMILIES: dict[str, list[Arm]] = {
    'STE': [
        Arm(f'STE, lr {OPTIMIZER.lr * factor:g}', lr=OPTIMIZER.lr * factor)
        for factor in (0.125, 0.25, 0.5, 1, 2, 4, 8, 16)
    ],
    'SURGE lite': tries('SURGE lite', 'eta', ETAS, branch(tied=True)),
    'SURGE': tries('SURGE', 'eta', ETAS, branch()),
    'gain': tries('gain', 'gain', GAINS, surrogate('gain')),
    'window': [
        Arm(
            f'window, k {k}, lr {OPTIMIZER.lr * factor:g}',
            activation={'type': 'STESign', 'window': 'rms', 'k': k},
            lr=OPTIMIZER.lr * factor,
        )
        for k, factors in WINDOWS.items()
        for factor in factors
    ],
    'floor': tries(
        'floor', 'floor', {'weak': 0.05, 'default': 0.1, 'strong': 0.2}, surrogate('floor')
    ),
    'SURGE frozen': tries('SURGE frozen', 'eta', ETAS, branch(frozen=True)),
}
"""The tries, in the order of running."""

SURGE_FORMS, CONTROLS = ('SURGE', 'SURGE lite', 'SURGE frozen'), ('gain', 'floor', 'window')
Accuracies = Mapping[str, Mapping[int, float]]
"""Accuracy by name of the arm and seed."""


def mean(accuracies: Accuracies, arm: Arm, seeds: Sequence[int]) -> float:
    return float(np.mean([accuracies[arm.name][seed] for seed in seeds]))


def has(accuracies: Accuracies, arms: Sequence[Arm], seeds: Sequence[int]) -> bool:
    return all(seed in accuracies.get(arm.name, {}) for arm in arms for seed in seeds)


def developed(accuracies: Accuracies) -> dict[str, list[Arm]]:
    """Return the three best tries of each family that has all its tries with the first seeds, best first."""
    return {
        family: sorted(arms, key=lambda arm: -mean(accuracies, arm, FIRST_SEEDS))[:FINALISTS]
        for family, arms in FAMILIES.items()
        if has(accuracies, arms, FIRST_SEEDS)
    }


class Choice(NamedTuple):
    """What development chose.

    Args:
        seeds: The seeds whose mean decided.
        arms: The try of each family.
        means: Its mean accuracy.
        default: A family of ``SURGE_FORMS``.
        control: A family of ``CONTROLS``.
        other: The better family of floor and window; None if neither was developed.
    """

    seeds: tuple[int, ...]
    arms: dict[str, Arm]
    means: dict[str, float]
    default: str
    control: str
    other: str | None


def choose(accuracies: Accuracies) -> Choice:
    """Return what the rule of the plan chooses; raise ValueError where too little of development is done."""
    finalists = developed(accuracies)
    complete = all(has(accuracies, arms, MORE_SEEDS) for arms in finalists.values())
    seeds = SEEDS if complete else FIRST_SEEDS
    arms: dict[str, Arm] = {}
    for family, three in finalists.items():
        ordered = sorted(three, key=FAMILIES[family].index)
        arms[family] = max(ordered, key=lambda arm: mean(accuracies, arm, seeds))
    means = {family: mean(accuracies, arm, seeds) for family, arm in arms.items()}

    def best(families: Sequence[str]) -> str | None:
        return max((family for family in families if family in means), key=means.get, default=None)  # type: ignore[arg-type]

    default, control = best(SURGE_FORMS), best(CONTROLS)
    if 'STE' not in arms or default is None or control is None:
        raise ValueError(
            f'development has only {list(arms)}; it needs STE, one of {SURGE_FORMS} and one of {CONTROLS}'
        )
    return Choice(seeds, arms, means, default, control, best(('floor', 'window')))


def seeds_of(commit: str, count: int = TEST_SEEDS) -> tuple[int, ...]:
    """Return seeds: for i from 0 on, the first 31 bits of SHA-256 of ``'COMMIT i'``.

    Args:
        commit: Hash of the commit of the plan, 40 hexadecimal digits.
        count: Number of seeds.
    """
    if not re.fullmatch('[0-9a-f]{40}', commit):
        raise ValueError(
            f'commit={commit!r} must be 40 hexadecimal digits, as git rev-parse prints'
        )
    digests = [hashlib.sha256(f'{commit} {i}'.encode()).digest() for i in range(count)]
    return tuple(int.from_bytes(digest[:4], 'big') >> 1 for digest in digests)


EQUAL_TIME = 'STE, equal time'


def equal_time_epochs(default: str) -> int:
    """Return the epochs that STE has in the time of 12 epochs of the form ``default``, rounded up."""
    return math.ceil(EPOCHS * TIME[default] / TIME['STE'])


def arms_of_test(choice: Choice) -> dict[str, Arm]:
    """Return the arms of the test that have 12 epochs, by family."""
    families = ['STE', choice.default, 'gain', choice.other, 'SURGE lite', 'SURGE', choice.control]
    return {family: choice.arms[family] for family in families if family in choice.arms}


def sequence_of_tests(choice: Choice, top1: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """Return the tests of the fixed sequence up to the first that fails.

    Args:
        choice: That of development.
        top1: Accuracy of each arm, seed by seed, alike in order.
    """
    rows = []
    for other in ('STE', EQUAL_TIME, choice.control):
        differences = np.subtract(top1[choice.default], top1[other])
        p = sign_flip_p(differences)
        rows.append({'against': other, 'mean': float(differences.mean()), 'p': p})
        if not p <= LEVEL:
            break
    return rows


def adamw_arms(choice: Choice) -> list[Arm]:
    """Return STE and lite (its eta of development) under AdamW, three learning rates each."""
    lite = choice.arms.get('SURGE lite', FAMILIES['SURGE lite'][0]).compensator
    return [
        Arm(f'{name}, AdamW, lr {lr:g}', compensator, lr=lr, optimizer='AdamW')
        for lr in (1e-3, 3e-3, 1e-2)
        for name, compensator in (('STE', None), ('SURGE lite', lite))
    ]


def with_eta(arm: Arm, eta: float, network: str) -> Arm:
    """Return ``arm``, a SURGE form, with another eta and network."""
    form = arm.name.partition(',')[0]
    compensator = {**(arm.compensator or {}), 'eta': eta}
    name = f'{form}, eta {eta:.4g}, {network}'
    return arm._replace(name=name, compensator=compensator, network=network)


def derived_eta(eta: float, depth: int) -> float:
    """Return the eta with the growth of the gradient at ``depth`` that ``eta`` has at depth 20: eta L is the same."""
    return eta * LAYERS[20] / LAYERS[depth]


def depth_arms(choice: Choice) -> list[Arm]:
    """Return, at depth 34, STE and the default with the eta of :func:`derived_eta` and four fixed values."""
    network = 'ResNet-34 of width 16, PReLU'
    ste, default = choice.arms['STE'], choice.arms[choice.default]
    eta = (default.compensator or {})['eta']
    etas = [derived_eta(eta, 34), eta, eta / 4, 2 * eta, 3 * eta]
    arms = [ste._replace(name=f'{ste.name}, {network}', network=network)]
    return arms + [with_eta(default, value, network) for value in etas]


def stability_cells(choice: Choice) -> dict[tuple[str, str, float], Arm]:
    """Return the arms of the stability table by network, form and factor of eta.

    The forms are the default with a fixed eta and with that of :func:`derived_eta`, and the paper's. All have the
    learning rate of the default.
    """
    default = choice.arms[choice.default]
    eta = (default.compensator or {})['eta']
    paper = default._replace(name='SURGE', compensator={'eta': eta})
    cells = {}
    for depth, prefix in DEPTHS.items():
        forms = {f'{choice.default}, fixed eta': (default, eta), 'SURGE, fixed eta': (paper, eta)}
        if depth == 34:
            forms[f'{choice.default}, eta of the depth'] = (default, derived_eta(eta, depth))
        cells |= cells_of(forms, prefix)
    return cells


def cells_of(
    forms: Mapping[str, tuple[Arm, float]], prefix: str
) -> dict[tuple[str, str, float], Arm]:
    """Return the arms of the stability table of one depth, from each form and its eta."""
    return {
        (f'{prefix}, {act}', form, factor): with_eta(arm, factor * eta, f'{prefix}, {act}')
        for act in ('PReLU', 'Hardtanh')
        for form, (arm, eta) in forms.items()
        for factor in (0.1, 1, 3, 10)
    }
