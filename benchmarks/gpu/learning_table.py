"""The table of ``learning.py``: top-1 of the last epoch by arm, and paired differences between arms.

python benchmarks/gpu/learning_table.py work_dirs/gpu/main.json

Intervals are Student's t over the seeds that all arms have; p is that of the exact two-sided sign-flip test, whose
smallest value with n seeds is 2 / 2^n.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import numpy as np

from surge_mm.analysis.paired import interval, sign_flip_p


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('result', type=Path)
    args = parser.parse_args()
    answer = json.loads(args.result.read_text())
    arms, last = answer['plan']['arms'], str(answer['plan']['epochs'])
    top1: dict[str, dict[int, float]] = {arm: {} for arm in arms}
    loss: dict[str, list[float]] = {arm: [] for arm in arms}
    for run in answer['runs']:
        top1[run['arm']][run['seed']] = run['top1'][last]
        loss[run['arm']].append(run['loss'][-1])
    seeds = sorted(set.intersection(*(set(values) for values in top1.values())))
    values = {arm: np.array([top1[arm][seed] for seed in seeds]) for arm in arms}
    print(f'{answer["plan"]["network"]}, {last} epochs, {answer["card"]}, seeds {seeds}')
    print('| | top-1 by seed | mean ± std | last training loss |\n| --- | --- | --- | --- |')
    for arm, tops in values.items():
        each = ', '.join(f'{value:.2f}' for value in tops)
        spread = f' ± {tops.std(ddof=1):.2f}' if len(tops) > 1 else ''
        print(f'| {arm} | {each} | {tops.mean():.2f}{spread} | {np.mean(loss[arm]):.3f} |')
    if len(seeds) < 2:
        return
    print('\n| difference | mean | 95 % interval | sign-flip p |\n| --- | --- | --- | --- |')
    for one, other in itertools.combinations(arms, 2):
        differences = values[other] - values[one]
        low, high = interval(differences)
        p = sign_flip_p(differences)
        print(
            f'| {other} - {one} | {differences.mean():+.2f} | {low:+.2f}, {high:+.2f} | {p:.3f} |'
        )


if __name__ == '__main__':
    main()
