"""Resume.

A short run of a binary classifier is stopped at random iterations, often more than once, and resumed. It has dropout,
batch norm, AGS with warm-up, momentum, two schedules, an averaged model, and data with random noise in random order.
Weights, averaged weights, optimizer, schedules and accumulated gradients must end equal to those of the uninterrupted
run to the bit. The cases are epoch- and iteration-based loops, gradient accumulation that a checkpoint interrupts,
checkpoints within epochs, validation in between, each scheduled binarizer, and each form of the branch.

`surge_mm.ExactResumeHook` and `surge_mm.SafeCheckpointHook`, which all configs of this package contain, restore what
MMEngine does not: the random generators, the position within an epoch, and accumulated gradients. Not restored are:

- random augmentation in worker processes, which MMEngine seeds by their number when they start;
- the counts of `EarlyStoppingHook`;
- the validation of an epoch whose checkpoint was written when the run was killed;
- the running count of `ags_nonfinite_steps` in the log.

An iteration-based loop reaches its position by loading all batches before it.
"""

import random

import pytest
from helpers.tiny_run import BATCHES, differences, state, stop_and_resume

LENGTH = 4
BINARISERS = [
    ('EDE', 'ReCU'),
    ('ReSTE', 'Libra'),
    ('EDE', 'AdaBin'),
    ('STESign', 'ReCU'),
    ('RSign', 'Libra'),
]
BRANCHES = [{'eta': 0.1}, {'eta': 0.1, 'tied': True}, {'eta': 1.0, 'preserve_norm': True}]


@pytest.mark.parametrize('validate', [False, True], ids=['', 'validated'])
@pytest.mark.parametrize('accumulate', [1, 3, 4])
@pytest.mark.parametrize('saved', ['epoch', 'within epochs', 'iteration'])
def test_stopped_runs_end_with_the_bits_of_unstopped_ones(
    saved, accumulate, validate, tmp_path, record
):
    rng = random.Random(f'{saved} {accumulate} {validate}')
    cases = stops = 0
    for activation, weight in BINARISERS:
        setting = {
            'loop': 'iter' if saved == 'iteration' else 'epoch',
            'length': LENGTH,
            'accumulate': accumulate,
            'validate': validate,
            'ema': rng.random() < 0.5,
            'activation': activation,
            'weight': weight,
            'compensator': rng.choice(BRANCHES),
        }
        if saved != 'epoch':
            setting['checkpoint'] = {'interval': rng.randint(2, 7), 'by_epoch': False}
        at = sorted(rng.sample(range(1, LENGTH * BATCHES), rng.randint(1, 3)))
        whole, resumed = stop_and_resume(tmp_path / str(cases), at, **setting)
        assert not differences(state(whole), state(resumed)), (setting, at)
        cases, stops = cases + 1, stops + len(at)
    record(
        f'checkpoints by {saved}, accumulation of {accumulate}{", validation" if validate else ""}',
        cases,
        f'{stops} stops; all equal to the bit',
    )
