"""CIFAR-10 in full on one GPU: the arms of a plan, interleaved by seed, a group of seeds side by side.

python benchmarks/gpu_learning.py data/cifar10 main --out work_dirs/gpu --seconds 540
python benchmarks/gpu_learning_table.py work_dirs/gpu/main.json

Called again, it goes on where it was. Figures are those of the last epoch; nothing is chosen on test images. Batch,
optimizer and normalization are those of the configs. Convolutions run in TF32, PyTorch's default.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from gpu_runs import ARMS, BATCH, NETWORKS, Epoch, Run, Setting, learning_rates
from mmengine.logging import MMLogger

from surge_mm.datasets.cifar import CIFAR10Tensor


class Plan(NamedTuple):
    """What is run; fixed before the first run.

    Args:
        network: A key of ``NETWORKS``.
        arms: Keys of ``ARMS``.
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
    'depth34': Plan('ResNet-34 of width 16, PReLU', THREE, (0, 1, 2), 3),
}
"""Either ``main`` or ``long`` is run: ``long`` where a step of each of the three takes at most 12 ms in all, four seeds
side by side (``gpu_step_cost.py``), else ``main``. The other two follow, as time allows."""


def load(root: str, split: str, device: str, limit: int | None) -> tuple[torch.Tensor, ...]:
    dataset = CIFAR10Tensor(root, split=split, device='cpu', indices=limit)
    dataset.full_init()
    return dataset.images.to(device), dataset.labels.to(device)


def train_group(
    runs: list[Run],
    epochs: int,
    histories: list[dict[str, Any]],
    test: tuple[torch.Tensor, ...],
    deadline: float,
) -> bool:
    """Train all runs from where they are; returns False where time ran out before the last epoch."""
    data = {run.epoch.seed: run.epoch for run in runs}.values()
    slowest = 0.0
    for i in range(len(histories[0]['loss']), epochs):
        started = time.monotonic()
        if started + 1.1 * slowest > deadline:
            return False
        for epoch in data:
            epoch.begin(i)
        synchronize(runs[0])
        for _ in range(runs[0].epoch.steps):
            for run in runs:
                run.step()
        synchronize(runs[0])
        for run, history in zip(runs, histories, strict=True):
            history['loss'].append(run.loss_sum.item() / run.epoch.steps)
            history['branch'].append(run.branch_report())
            run.loss_sum.zero_()
            if (i + 1) % 5 == 0 or i + 1 == epochs:
                history['top1'][i + 1] = run.accuracy(*test)
        took = time.monotonic() - started
        slowest = max(slowest, took) if slowest else took
        for history in histories:
            history['seconds'] += took / len(runs)
        losses = ' '.join(f'{history["loss"][-1]:.3f}' for history in histories)
        print(f'epoch {i + 1}: {took:.1f} s, losses {losses}', flush=True)
    return True


def synchronize(run: Run) -> None:
    if run.setting.device == 'cuda':
        torch.cuda.synchronize()


def write(path: Path, answer: dict[str, Any]) -> None:
    part = path.with_suffix('.part')
    part.write_text(json.dumps(answer, indent=1) + '\n')
    part.replace(path)


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
    parser.add_argument('--bf16', action='store_true')
    parser.add_argument('--channels-last', action='store_true')
    parser.add_argument('--compile', action='store_true')
    args = parser.parse_args()
    deadline = time.monotonic() + args.seconds
    plan = PLANS[args.plan]
    plan = plan._replace(epochs=args.epochs or plan.epochs, seeds=plan.seeds[: args.seeds])
    epochs = plan.epochs
    on_gpu = args.device == 'cuda'
    setting = Setting(args.device, args.bf16, args.channels_last, args.compile, graph=on_gpu)
    torch.backends.cudnn.benchmark = on_gpu
    MMLogger.get_current_instance().setLevel('ERROR')
    args.out.mkdir(parents=True, exist_ok=True)
    result, state_file = args.out / f'{args.plan}.json', args.out / f'{args.plan}.pt'
    answer: dict[str, Any] = {
        'plan': plan._asdict() | {'images': args.images},
        'compensators': {arm: ARMS[arm] for arm in plan.arms},
        'backbone': NETWORKS[plan.network],
        'setting': vars(setting),
        'card': torch.cuda.get_device_name() if on_gpu else 'CPU',
        'torch': torch.__version__,
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
            runs += [Run(plan.network, arm, epoch, rates, setting) for arm in plan.arms]
        histories: list[dict[str, Any]] = [
            {
                'arm': run.arm,
                'seed': run.epoch.seed,
                'loss': [],
                'top1': {},
                'branch': [],
                'seconds': 0.0,
            }
            for run in runs
        ]
        saved = torch.load(state_file, weights_only=True) if state_file.exists() else {}
        if saved.get('seeds') == list(seeds):
            histories = saved['histories']
        for run in runs:
            run.prepare()
        if saved.get('seeds') == list(seeds):
            for run, state in zip(runs, saved['states'], strict=True):
                run.load(state)
        finished = train_group(runs, epochs, histories, test, deadline)
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
