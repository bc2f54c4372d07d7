"""The experiment on the part of CIFAR-10, on one GPU: development, test and what is beside them.

``plan.py`` fixes it. In this order, each call with a limit in seconds; called again, a stage goes on after the last
group of runs that it finished:

python benchmarks/gpu/experiment.py pack data/cifar10 --out work_dirs/gpu      # once; 31 MB in mini.pt, no GPU
python benchmarks/gpu/experiment.py smoke --out work_dirs/gpu
python benchmarks/gpu/experiment.py development work_dirs/gpu/mini.pt --out work_dirs/gpu --seconds 400
python benchmarks/gpu/experiment.py test work_dirs/gpu/mini.pt --plan-commit HASH --out work_dirs/gpu --seconds 240
python benchmarks/gpu/experiment.py adamw work_dirs/gpu/mini.pt --out work_dirs/gpu --seconds 90
python benchmarks/gpu/experiment.py stability work_dirs/gpu/mini.pt --out work_dirs/gpu --seconds 60
python benchmarks/gpu/experiment.py depth work_dirs/gpu/mini.pt --out work_dirs/gpu --seconds 120
python benchmarks/gpu/learning.py data/cifar10 chosen --development work_dirs/gpu/development.json --no-tf32 \
    --out work_dirs/gpu --epochs 30 --seconds 300
python benchmarks/gpu/report.py work_dirs/gpu

The stages clipped_development, clipped_stability and clipped_test are those of ``clipped.py``.

HASH is that of the commit of the plan. Each stage writes STAGE.json. Runs train side by side in one process, each step
one CUDA graph; the draws of a run depend on its seed and the number of the epoch alone.
"""

from __future__ import annotations

import argparse
import gc
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import clipped
import plan
import torch
from arms import Arm
from groups import new_history, train_group
from results import Results, accuracies
from runs import Epoch, Run, Setting, learning_rates, prepare_process
from smoke import smoke

from surge_mm.datasets.cifar import CIFAR10Tensor

Part = tuple[torch.Tensor, torch.Tensor]


def parts_of(folder: str) -> dict[str, Part]:
    """Return images and labels for training, validation and test, from the official files."""
    train = CIFAR10Tensor(folder, device='cpu', size=16, indices=40_000)
    test = CIFAR10Tensor(folder, split='test', device='cpu', size=16)
    for dataset in (train, test):
        dataset.full_init()
    return {
        'train': (train.images[:20_000].clone(), train.labels[:20_000].clone()),
        'validation': (train.images[30_000:].clone(), train.labels[30_000:].clone()),
        'test': (test.images, test.labels),
    }


class Session(NamedTuple):
    """What all stages share.

    Args:
        parts: Images and labels by the name of the part.
        setting: How runs compute.
        deadline: Value of ``time.monotonic()`` before which a stage ends.
        side_by_side: How many runs train at once.
        epochs: For trials: instead of those of the plan.
    """

    parts: dict[str, Part]
    setting: Setting
    deadline: float
    side_by_side: int
    epochs: int | None


def run_grid(
    session: Session,
    results: Results,
    arms: Sequence[Arm],
    seeds: Sequence[int],
    epochs: int = plan.EPOCHS,
    schedule: int | None = None,
    evaluated: str = 'validation',
    growth: bool = False,
) -> bool:
    """Train all arms with all seeds, all arms of a seed side by side.

    Args:
        session: What all stages share.
        results: Where the runs are added.
        arms: Settings.
        seeds: Seeds.
        epochs: Epochs of a run.
        schedule: Epochs of the schedule of the learning rate. Defaults to None: ``epochs``.
        evaluated: The part that is evaluated after the last epoch.
        growth: Whether to measure the growth of the gradient at the stem, at the start and after each epoch.

    Returns:
        Whether all are done.
    """
    epochs = session.epochs or epochs
    train = session.parts['train']
    batch = min(plan.BATCH, len(train[0]) // 2)
    steps = len(train[0]) // batch
    rates = learning_rates(max(schedule or 0, epochs) * steps, plan.WARMUP * steps)
    width = max(1, session.side_by_side // len(arms))
    pace = 0.0
    for first in range(0, len(seeds), width):
        block = seeds[first : first + width]
        todo = [(arm, seed) for seed in block for arm in arms if results.lacks(arm, seed)]
        if not todo:
            continue
        started = time.monotonic()
        if started + pace * len(todo) > session.deadline:
            return time_is_up(results)
        data = {seed: Epoch(*train, seed, batch, plan.PADDING) for seed in block}
        runs = [Run(arm, data[seed], rates, session.setting) for arm, seed in todo]
        for epoch in data.values():
            epoch.begin(0)
        for run in runs:
            run.prepare()
        print(f'{len(runs)} runs prepared, {time.monotonic() - started:.1f} s', flush=True)
        histories = [new_history(run) for run in runs]
        done = train_group(
            runs,
            epochs,
            histories,
            session.deadline,
            session.parts[evaluated],
            whole=True,
            probe=Run.stem_growth if growth else None,
        )
        del runs, run  # noqa: F821  a graph holds its memory
        gc.collect()
        torch.cuda.empty_cache()
        if not done:
            return time_is_up(results)
        for history in histories:
            history['top1'] = history['top1'][epochs]
            history['branch'] = history['branch'][-1]
        results.add(list(arms), histories)
        took = time.monotonic() - started
        pace = took / len(todo)
        print(f'{results.path.stem}: seeds {list(block)} done, {took:.1f} s', flush=True)
    return True


def time_is_up(results: Results) -> bool:
    print(f'time is up: {results.path.stem} goes on when it is called again', flush=True)
    return False


def development(session: Session, results: Results) -> bool:
    """All tries with the first seeds, then the three best of each family with the others."""
    for arms in plan.FAMILIES.values():
        if not run_grid(session, results, arms, plan.FIRST_SEEDS):
            return False
    finalists = plan.developed(accuracies(results.path))
    arms = [arm for three in finalists.values() for arm in three]
    return run_grid(session, results, arms, plan.MORE_SEEDS)


def test(session: Session, results: Results, choice: plan.Choice, seeds: Sequence[int]) -> bool:
    """All arms of 12 epochs, then STE with the epochs of the default's time."""
    arms = list(plan.arms_of_test(choice).values())
    longer = choice.arms['STE']._replace(name=plan.EQUAL_TIME)
    epochs = plan.equal_time_epochs(choice.default)
    return run_grid(session, results, arms, seeds, evaluated='test') and run_grid(
        session, results, [longer], seeds, epochs, evaluated='test'
    )


def second(session: Session, results: Results, stage: str, seeds: Sequence[int]) -> bool:
    """Run a stage of ``clipped.py``."""
    if stage == 'clipped_stability':
        arms = list(clipped.stability_cells().values())
        return run_grid(session, results, arms, plan.FIRST_SEEDS, 2, plan.EPOCHS, growth=True)
    if stage == 'clipped_development':
        return run_grid(session, results, clipped.development_arms(), plan.FIRST_SEEDS)
    of_development = accuracies(results.path.with_name('clipped_development.json'))
    arms = clipped.chosen_arms(of_development)
    return run_grid(session, results, arms, seeds, evaluated='test')


def beside(session: Session, results: Results, stage: str, choice: plan.Choice) -> bool:
    if stage == 'stability':
        cells = plan.stability_cells(choice).values()
        arms = list({arm.name: arm for arm in cells}.values())
        return run_grid(session, results, arms, plan.FIRST_SEEDS, 2, plan.EPOCHS, growth=True)
    make = {'adamw': plan.adamw_arms, 'depth': plan.depth_arms}[stage]
    return run_grid(session, results, make(choice), plan.SEEDS)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    stages = ['pack', 'smoke', 'development', 'test', 'adamw', 'stability', 'depth']
    stages += ['clipped_development', 'clipped_stability', 'clipped_test']
    parser.add_argument('stage', choices=stages)
    parser.add_argument('data', nargs='?', help='mini.pt, or folder that holds cifar-10-batches-py')
    parser.add_argument('--out', type=Path, required=True, help='folder of the JSON files')
    parser.add_argument('--seconds', type=float, default=math.inf, help='stop after so many')
    parser.add_argument('--plan-commit', help='hash of the commit of the plan, for the test')
    parser.add_argument('--side-by-side', type=int, default=24, help='runs at once; default 24')
    parser.add_argument('--channels-last', action='store_true')
    parser.add_argument('--device', default='cuda', choices=['cpu', 'cuda'])
    parser.add_argument('--epochs', type=int, help='for trials: instead of those of the plan')
    parser.add_argument('--images', type=int, help='for trials: only the first so many')
    args = parser.parse_args()
    deadline = time.monotonic() + args.seconds
    if args.stage != 'smoke' and args.data is None:
        parser.error(f'the stage {args.stage} needs data')
    args.out.mkdir(parents=True, exist_ok=True)
    if args.stage == 'pack':
        torch.save(parts_of(args.data), args.out / 'mini.pt')
        return
    on_gpu = args.device == 'cuda'
    setting = Setting(args.device, channels_last=args.channels_last, graph=on_gpu, tf32=False)
    machine = prepare_process(setting)
    print(machine, flush=True)
    if args.stage == 'smoke':
        smoke(setting, args.side_by_side, deadline)
        return
    packed = args.data.endswith('.pt')
    loaded = torch.load(args.data, weights_only=True) if packed else parts_of(args.data)
    parts = {
        name: (images[: args.images].to(args.device), labels[: args.images].to(args.device))
        for name, (images, labels) in loaded.items()
    }
    session = Session(parts, setting, deadline, args.side_by_side, args.epochs)
    about: dict[str, Any] = {**machine, 'epochs': args.epochs, 'images': args.images}
    path = args.out / f'{args.stage}.json'
    seeds: Sequence[int] = ()
    if args.stage in ('test', 'clipped_test'):
        if args.plan_commit is None:
            parser.error('the test needs --plan-commit, the hash of the commit of the plan')
        seeds = plan.seeds_of(args.plan_commit)
        about |= {'plan_commit': args.plan_commit, 'seeds': seeds}
    if args.stage == 'development':
        done = development(session, Results(path, about))
    elif args.stage.startswith('clipped'):
        done = second(session, Results(path, about), args.stage, seeds)
    else:
        choice = plan.choose(accuracies(args.out / 'development.json'))
        print(f'default {choice.default}, control {choice.control}: {choice.means}', flush=True)
        about['choice'] = choice._asdict()
        about['choice']['arms'] = {family: arm.name for family, arm in choice.arms.items()}
        if args.stage == 'test':
            done = test(session, Results(path, about), choice, seeds)
        else:
            done = beside(session, Results(path, about), args.stage, choice)
    print(f'{args.stage}: {"done" if done else "not done"}', flush=True)


if __name__ == '__main__':
    main()
