"""What a step of binary ResNet-20 (batch 256, 32 pixels) costs on a GPU, and what it waits for.

python benchmarks/gpu/step_cost.py --out work_dirs/gpu/step_cost.json

Parts: ``runner`` (MMEngine's loop with and without the NonFiniteGuardHook), ``graphs`` (eager steps and CUDA graphs,
one run and four side by side in one process), ``processes`` (1, 2 and 4 processes on one GPU) and ``compiled``
(torch.compile, which takes minutes to compile). Times are medians of CUDA-synchronized repeats after a warm-up. Each
part writes before the next begins.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from arms import ARMS
from mmengine.logging import MMLogger
from runner_training import IterationClock, random_cifar_runner
from runs import BATCH, Epoch, Run, Setting, learning_rates


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def random_run(arm: str, setting: Setting, seed: int = 0) -> Run:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4 * BATCH, 3, 32, 32), generator=generator)
    images = images.to(setting.device, torch.uint8)
    epoch = Epoch(images, torch.arange(4 * BATCH, device=setting.device) % 10, seed)
    epoch.begin(0)
    run = Run(ARMS[arm], epoch, learning_rates(1000, 1), setting)
    run.prepare()
    return run


def milliseconds(runs: list[Run], steps: int, repeats: int = 3) -> float:
    """Milliseconds for one step of one run, all ``runs`` side by side; the median of ``repeats``."""
    times = []
    for _ in range(repeats):
        synchronize()
        started = time.perf_counter()
        for _ in range(steps):
            for run in runs:
                run.step()
        synchronize()
        times.append(1e3 * (time.perf_counter() - started) / steps / len(runs))
    return median(times)


def graphs(device: str, steps: int) -> list[dict[str, Any]]:
    settings = [Setting(device, graph=False)]
    if device == 'cuda':
        settings = [
            Setting(device, bf16=bf16, channels_last=last)
            for last in (True, False)
            for bf16 in (False, True)
        ] + settings
    return measure(settings, steps)


def compiled(device: str, steps: int) -> list[dict[str, Any]]:
    settings = [
        Setting(device, compile=True, graph=device == 'cuda', bf16=b) for b in (False, True)
    ]
    return measure(settings, steps)


def measure(settings: list[Setting], steps: int) -> list[dict[str, Any]]:
    rows = []
    for setting in settings:
        for arm in ('STE', 'SURGE', 'SURGE lite'):
            started = time.perf_counter()
            runs = [random_run(arm, setting)]
            prepared = time.perf_counter() - started
            row: dict[str, Any] = vars(setting) | {'arm': arm, 'seconds to prepare': prepared}
            row['ms'] = {1: milliseconds(runs, steps)}
            if setting.graph:
                runs += [random_run(arm, setting, seed) for seed in (1, 2, 3)]
                row['ms'][4] = milliseconds(runs, steps // 4)
            rows.append(row)
            print(json.dumps(row), flush=True)
            del runs
    return rows


def worker(index: int, device: str, steps: int, barrier: Any, queue: Any) -> None:
    torch.set_num_threads(1)
    MMLogger.get_current_instance().setLevel('ERROR')
    for graph in (False, True) if device == 'cuda' else (False,):
        run = random_run('SURGE', Setting(device, graph=graph))
        milliseconds([run], 5, 1)
        for count in (1, 2, 4):
            barrier.wait()
            if index < count:
                queue.put((graph, count, milliseconds([run], steps, 3)))
            barrier.wait()


def processes(device: str, steps: int) -> list[dict[str, Any]]:
    context = torch.multiprocessing.get_context('spawn')
    barrier, queue = context.Barrier(4), context.Queue()
    workers = [
        context.Process(target=worker, args=(i, device, steps, barrier, queue)) for i in range(4)
    ]
    for process in workers:
        process.start()
    expected = (2 if device == 'cuda' else 1) * (1 + 2 + 4)
    found: dict[tuple[bool, int], list[float]] = {}
    for _ in range(expected):
        graph, count, ms = queue.get(timeout=300)
        found.setdefault((graph, count), []).append(ms)
    for process in workers:
        process.join()
    return [
        {
            'graph': graph,
            'processes': count,
            'ms a step of each': ms,
            'ms a step': median(ms) / count,
        }
        for (graph, count), ms in found.items()
    ]


def runner(device: str, steps: int) -> list[dict[str, Any]]:
    rows = []
    for arm in ('STE', 'SURGE'):
        for guard in (False, True):
            trained = random_cifar_runner(arm, max(2 * steps, 100), guard)
            trained.train()
            (clock,) = (hook for hook in trained.hooks if isinstance(hook, IterationClock))
            spans = [1e3 * (b - a) / 50 for a, b in itertools.pairwise(clock.times)]
            rows.append({'arm': arm, 'guard': guard, 'ms an iteration': median(spans)})
            print(json.dumps(rows[-1]), flush=True)
    return rows


PARTS = {'runner': runner, 'graphs': graphs, 'processes': processes, 'compiled': compiled}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--out', type=Path, required=True, help='the JSON file')
    parser.add_argument('--device', default='cuda', choices=['cpu', 'cuda'])
    parser.add_argument('--steps', type=int, default=100, help='steps of a repeat')
    parser.add_argument('--parts', nargs='+', default=list(PARTS))
    args = parser.parse_args()
    if args.out.exists():
        parser.error(f'--out {str(args.out)!r} exists already: name another file')
    MMLogger.get_current_instance().setLevel('ERROR')
    torch.backends.cudnn.benchmark = args.device == 'cuda'
    card = torch.cuda.get_device_name() if args.device == 'cuda' else 'CPU'
    answer: dict[str, Any] = {
        'card': card,
        'torch': torch.__version__,
        'network': ARMS['STE'].network,
    }
    for part in args.parts:
        started = time.monotonic()
        try:
            answer[part] = PARTS[part](args.device, args.steps)
        except Exception as error:
            answer[part] = f'{type(error).__name__}: {error}'
        print(f'{part}, {time.monotonic() - started:.0f} s: {json.dumps(answer[part])}', flush=True)
        args.out.write_text(json.dumps(answer, indent=1) + '\n')


if __name__ == '__main__':
    main()
