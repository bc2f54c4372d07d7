"""The tables of ``experiment.py`` in Markdown, from the JSON files of its stages; missing stages are left out.

python benchmarks/gpu/report.py work_dirs/gpu

Intervals are Student's t over the seeds, at 95 %; p is that of the exact two-sided sign-flip test.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import clipped
import numpy as np
import plan
from arms import Arm
from results import accuracies

from surge_mm.analysis.paired import interval, sign_flip_p

Values = Mapping[str, Sequence[float]]


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    print(f'\n| {" | ".join(columns)} |\n|{" --- |" * len(columns)}')
    for row in rows:
        print(f'| {" | ".join(row)} |')
    print()


def spread(values: Sequence[float]) -> str:
    return f'{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}' if len(values) > 1 else '-'


def top1_table(values: Values, losses: Mapping[str, float]) -> None:
    rows = (
        [name, ', '.join(f'{one:.2f}' for one in of), spread(of), f'{losses[name]:.3f}']
        for name, of in values.items()
    )
    table(['', 'by seed', 'mean ± std', 'last training loss'], rows)


def difference(one: Sequence[float], other: Sequence[float]) -> list[str]:
    """Return the columns of ``other - one``: mean, interval, whether it lies within half a point, and p."""
    differences = np.subtract(other, one)
    low, high = interval(differences)
    same = max(abs(low), abs(high)) <= plan.NO_DIFFERENCE
    return [
        f'{differences.mean():+.2f}',
        f'{low:+.2f}, {high:+.2f}',
        'no difference' if same else '',
        f'{sign_flip_p(differences):.4f}',
    ]


def pairs_table(values: Values, pairs: Iterable[tuple[str, str]]) -> None:
    rows = ([f'{other} - {one}', *difference(values[one], values[other])] for one, other in pairs)
    table(['difference', 'mean', '95 % interval', 'within 0.5 points', 'sign-flip p'], rows)


def complete(path: Path, arms: Sequence[Arm]) -> tuple[Values, dict[str, float]]:
    """Return accuracies by arm over the seeds that all ``arms`` have, and their mean last loss."""
    found = accuracies(path)
    seeds = [
        s for s in found.get(arms[0].name, {}) if all(s in found.get(a.name, {}) for a in arms)
    ]
    runs = [run for run in json.loads(path.read_text())['runs'] if run['seed'] in seeds]
    losses = {}
    for arm in arms:
        last = [run['loss'][-1] for run in runs if run['arm'] == arm.name]
        losses[arm.name] = float(np.mean([np.nan if loss is None else loss for loss in last]))
    print(f'Seeds: {", ".join(map(str, seeds))}.')
    return {arm.name: [found[arm.name][seed] for seed in seeds] for arm in arms}, losses


def development(path: Path) -> None:
    found = accuracies(path)
    try:
        choice = plan.choose(found)
    except ValueError as error:
        choice = None
        print(f'No choice yet: {error}')
    for family, arms in plan.FAMILIES.items():
        rows = []
        for arm in arms:
            of = found.get(arm.name, {})
            first, every = ([of[s] for s in seeds if s in of] for seeds in (plan.FIRST_SEEDS, of))
            chosen = choice is not None and choice.arms.get(family) == arm
            name = f'**{arm.name}**' if chosen else arm.name
            rows.append([name, spread(first), spread(every) if len(every) > 3 else ''])
        table([family, 'seeds 0 to 2', 'seeds 0 to 5'], rows)
    if choice is not None:
        print(f'Chosen over the seeds {", ".join(map(str, choice.seeds))}:')
        table(
            ['family', 'try', 'mean'],
            (
                [family, arm.name, f'{choice.means[family]:.2f}']
                for family, arm in choice.arms.items()
            ),
        )
        print(f'Default: {choice.default}. Control: {choice.control}.')


def test(path: Path, choice: plan.Choice) -> None:
    arms = plan.arms_of_test(choice)
    if accuracies(path).get(plan.EQUAL_TIME):
        arms[plan.EQUAL_TIME] = choice.arms['STE']._replace(name=plan.EQUAL_TIME)
    by_name, losses = complete(path, list(arms.values()))
    print(f'{plan.EQUAL_TIME}: {plan.equal_time_epochs(choice.default)} epochs.')
    top1_table(by_name, losses)
    values = {family: by_name[arm.name] for family, arm in arms.items()}
    if plan.EQUAL_TIME in values:
        tests = plan.sequence_of_tests(choice, values)
        rows = []
        for row in tests:
            better = choice.default if row['mean'] > 0 else row['against']
            passed = row['p'] <= plan.LEVEL
            verdict = f'{better} is better' if passed else 'no claim: the sequence ends'
            name = f'{choice.default} - {row["against"]}'
            rows.append([name, f'{row["mean"]:+.2f}', f'{row["p"]:.4f}', verdict])
        table(['test of the sequence', 'mean', 'sign-flip p', f'at {plan.LEVEL}'], rows)
    pairs_table(values, itertools.combinations(values, 2))


def adamw(path: Path, choice: plan.Choice) -> None:
    arms = plan.adamw_arms(choice)
    values, losses = complete(path, arms)
    top1_table(values, losses)
    best = []
    for branch in (False, True):
        names = [arm.name for arm in arms if bool(arm.compensator) == branch]
        best.append(max(names, key=lambda name: float(np.mean(values[name]))))
    print('The best learning rate of each, chosen on the same seeds:')
    pairs_table(values, [(best[0], best[1])])


def depth(path: Path, choice: plan.Choice) -> None:
    arms = plan.depth_arms(choice)
    values, losses = complete(path, arms)
    top1_table(values, losses)
    ste, derived, *fixed = (arm.name for arm in arms)
    print('The second arm has the eta of the depth, the third the fixed eta of depth 20.')
    pairs_table(values, [(ste, derived), *((name, derived) for name in fixed)])


def stable(run: Mapping[str, Any]) -> bool:
    """Return whether a run of the stability table is stable: finite, a falling loss, a growth of at most 10."""
    numbers = [*run['loss'], *run['probe']]
    return None not in numbers and run['loss'][1] < run['loss'][0] and max(run['probe']) <= 10


def stability(path: Path, choice: plan.Choice) -> None:
    stability_table(path, plan.stability_cells(choice))


def clipped_development(path: Path) -> None:
    found = accuracies(path)
    rows = []
    for arm in clipped.development_arms():
        of = found.get(arm.name, {})
        numbers = ', '.join(f'{of[s]:.2f}' if s in of else 'not run' for s in plan.FIRST_SEEDS)
        rows.append([arm.name, numbers, spread(list(of.values()))])
    table(['', 'seeds 0 to 2', 'mean ± std'], rows)


def clipped_test(path: Path) -> None:
    development = accuracies(path.with_name('clipped_development.json'))
    values, losses = complete(path, clipped.chosen_arms(development))
    top1_table(values, losses)
    pairs_table(values, itertools.combinations(values, 2))


def clipped_stability(path: Path) -> None:
    stability_table(path, clipped.stability_cells())


def stability_table(path: Path, cells: Mapping[tuple[str, str, float], Arm]) -> None:
    runs: dict[str, list[dict[str, Any]]] = {}
    for run in json.loads(path.read_text())['runs']:
        runs.setdefault(run['arm'], []).append(run)
    rows, corrections = [], []
    for network, form in dict.fromkeys(key[:2] for key in cells):
        row = [network, form]
        for factor in (0.1, 1, 3, 10):
            of = runs.get(cells[network, form, factor].name, [])
            growth = [one for run in of for one in run['probe']]
            largest = 'not finite' if None in growth else f'{max(growth, default=0):.3g}'
            row.append(f'{sum(map(stable, of))} of {len(of)} ({largest})')
            if factor == 1:
                corrections += [run['branch'].get('lambda_norm_a/norm_b') for run in of]
        rows.append(row)
    print('Runs that are stable, and the largest growth of the gradient at the stem:')
    table(['', 'form', *(f'eta x {factor}' for factor in (0.1, 1, 3, 10))], rows)
    known = [one for one in corrections if one is not None]
    print(f'Median of lambda ||g_a|| / ||g_b|| at factor 1: {median(known) if known else "none"}')


def print_heading(name: str, path: Path) -> None:
    answer = json.loads(path.read_text())
    cards = ', '.join(sorted({run['card'] for run in answer['runs']}))
    print(f'\n## {name}\n\n{cards}; PyTorch {answer["torch"]}; {answer["setting"]}\n')


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('results', type=Path, help='folder of the JSON files')
    args = parser.parse_args()
    choice = None
    for name, part in (
        ('development', None),
        ('test', test),
        ('adamw', adamw),
        ('depth', depth),
        ('stability', stability),
    ):
        path = args.results / f'{name}.json'
        if not path.exists():
            continue
        print_heading(name, path)
        if part is None:
            development(path)
        else:
            choice = choice or plan.choose(accuracies(args.results / 'development.json'))
            part(path, choice)
    for part in (clipped_development, clipped_stability, clipped_test):
        path = args.results / f'{part.__name__}.json'
        if path.exists():
            print_heading(part.__name__, path)
            part(path)


if __name__ == '__main__':
    main()
