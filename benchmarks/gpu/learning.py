"""CIFAR-10 in full on one GPU: the arms of a plan, interleaved by seed, a group of seeds side by side.

python benchmarks/gpu/learning.py data/cifar10 main --out work_dirs/gpu --seconds 540
python benchmarks/gpu/learning_table.py work_dirs/gpu/main.json

Called again, it goes on where it was. Figures are those of the last epoch; nothing is chosen on test images. Batch,
optimizer and normalization are those of the configs. Convolutions run in TF32, PyTorch's default, unless ``--no-tf32``
is given.

The plan ``chosen`` compares STE and the default as ``experiment.py`` chose them:
python benchmarks/gpu/learning.py data/cifar10 chosen --development work_dirs/gpu/development.json --no-tf32 \
    --epochs 30 --out work_dirs/gpu --seconds 300
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from arms import ARMS
from groups import new_history, train_group, write
from plan import choose
from results import accuracies
from runs import BATCH, Epoch, Run, Setting, learning_rates, prepare_process

from surge_mm.datasets.cifar import CIFAR10Tensor


class Plan(NamedTuple):
    """What is run; fixed before the first run.

    Args:
        network: A key of ``NETWORKS``.
        arms: Keys of ``ARMS``; empty for those that ``--development`` chose.
        seeds: In the order of running.
        side_by_side: How many seeds train at once.
        epochs: Of each run.
        warmup: Epochs of warm-up, counted in ``epochs``.
    """

    network: str
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    side_by_side: int
    epochs: int = 20
    warmup: int = 2


THREE = ('STE', 'SURGE', 'SURGE lite')
PLANS = {
    'main': Plan('ResNet-20, PReLU', THREE, tuple(range(8)), 4),
    'long': Plan('ResNet-20, PReLU', THREE, tuple(range(8)), 4, epochs=30),
    'eta0.3': Plan('ResNet-20, PReLU', ('SURGE, eta 0.3', 'SURGE lite, eta 0.3'), (0, 1, 2), 3),
    'chosen': Plan('ResNet-20, PReLU', (), (0, 1, 2), 3, epochs=30),
    'depth34': Plan('ResNet-34 of width 16, PReLU', THREE, (0, 1, 2), 3),
}
"""Either ``main`` or ``long`` is run: ``long`` where a step of each of the three takes at most 12 ms in all, four seeds
side by side (``step_cost.py``), else ``main``. ``eta0.3`` and ``depth34`` follow, as time allows."""


def load(root: str, split: str, device: str, limit: int | None) -> tuple[torch.Tensor, ...]:
    dataset = CIFAR10Tensor(root, split=split, device='cpu', indices=limit)
    dataset.full_init()
    return dataset.images.to(device), dataset.labels.to(device)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('data_root', help='folder that holds cifar-10-batches-py')
    parser.add_argument('plan', choices=list(PLANS))
    parser.add_argument('--out', type=Path, required=True, help='folder of PLAN.json and states')
    parser.add_argument('--seconds', type=float, default=math.inf, help='stop after so many')
    parser.add_argument('--device', default='cuda', choices=['cpu', 'cuda'])
    parser.add_argument('--epochs', type=int, help='for trials: instead of those of the plan')
    parser.add_argument('--images', type=int, help='for trials: only the first so many')
    parser.add_argument('--seeds', type=int, help='for trials: only the first so many')
    parser.add_argument('--development', type=Path, help='JSON file, for the plan chosen')
    parser.add_argument('--no-tf32', action='store_true')
    parser.add_argument('--bf16', action='store_true')
    parser.add_argument('--channels-last', action='store_true')
    parser.add_argument('--compile', action='store_true')
    args = parser.parse_args()
    deadline = time.monotonic() + args.seconds
    plan = PLANS[args.plan]
    arms = {name: ARMS[name] for name in plan.arms}
    if not plan.arms:
        if args.development is None:
            parser.error(f'the plan {args.plan} needs --development work_dirs/gpu/development.json')
        choice = choose(accuracies(args.development))
        chosen = [choice.arms[family] for family in ('STE', choice.default)]
        arms = {arm.name: arm for arm in chosen}
    arms = {name: arm._replace(network=plan.network) for name, arm in arms.items()}
    seeds_of_plan = plan.seeds[: args.seeds]
    epochs = args.epochs or plan.epochs
    plan = plan._replace(arms=tuple(arms), epochs=epochs, seeds=seeds_of_plan)
    on_gpu = args.device == 'cuda'
    setting = Setting(
        args.device, args.bf16, args.channels_last, args.compile, on_gpu, not args.no_tf32
    )
    args.out.mkdir(parents=True, exist_ok=True)
    result, state_file = args.out / f'{args.plan}.json', args.out / f'{args.plan}.pt'
    answer: dict[str, Any] = {
        'plan': plan._asdict() | {'images': args.images},
        'arms': {name: arm._asdict() for name, arm in arms.items()},
        **prepare_process(setting),
        'runs': [],
    }
    if result.exists():
        answer['runs'] = json.loads(result.read_text())['runs']
    done = {(run['arm'], run['seed']) for run in answer['runs']}
    if len(done) == len(plan.arms) * len(plan.seeds):
        print(f'{args.plan} is done')
        return
    train = load(args.data_root, 'train', args.device, args.images)
    test = load(args.data_root, 'test', args.device, args.images)
    for first in range(0, len(plan.seeds), plan.side_by_side):
        seeds = plan.seeds[first : first + plan.side_by_side]
        if all((arm, seed) in done for arm in plan.arms for seed in seeds):
            continue
        steps = len(train[0]) // BATCH
        rates = learning_rates(epochs * steps, min(plan.warmup, epochs - 1) * steps)
        runs = []
        for seed in seeds:
            epoch = Epoch(*train, seed)
            runs += [Run(arm, epoch, rates, setting) for arm in arms.values()]
        histories = [new_history(run) for run in runs]
        saved = torch.load(state_file, weights_only=True) if state_file.exists() else {}
        if saved.get('seeds') == list(seeds):
            histories = saved['histories']
        for run in runs:
            run.prepare()
        if saved.get('seeds') == list(seeds):
            for run, state in zip(runs, saved['states'], strict=True):
                run.load(state)
        finished = train_group(runs, epochs, histories, deadline, test, interval=5)
        if not finished:
            states = [run.state() for run in runs]
            torch.save({'seeds': list(seeds), 'histories': histories, 'states': states}, state_file)
            print(f'time is up: seeds {list(seeds)} stopped at epoch {len(histories[0]["loss"])}')
            return
        answer['runs'] += histories
        write(result, answer)
        print(f'seeds {list(seeds)} are done', flush=True)


if __name__ == '__main__':
    main()
