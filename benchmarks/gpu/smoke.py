"""A quick check on a GPU: every kind of arm as a CUDA graph and eagerly, and the pace of many runs side by side."""

from __future__ import annotations

import gc
import time
from dataclasses import replace

import plan
import torch
from arms import Arm
from runs import Epoch, Run, Setting, learning_rates


def kinds() -> list[Arm]:
    """Return one arm of each kind of the plan: they differ in network, optimizer or the settings of their layers."""
    arms = {family: tries[3] for family, tries in plan.FAMILIES.items()}
    means = dict.fromkeys(arms, 0.0)
    choice = plan.Choice(plan.SEEDS, arms, means, 'SURGE lite', 'gain', 'window')
    every = [*arms.values(), *plan.adamw_arms(choice)]
    every += [*plan.depth_arms(choice), *plan.stability_cells(choice).values()]
    found: dict[tuple[object, ...], Arm] = {}
    for arm in every:
        layers = (*(arm.compensator or {}), *arm.activation)
        found.setdefault((arm.network, arm.optimizer, *layers), arm)
    return list(found.values())


def random_epoch(setting: Setting) -> Epoch:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4 * plan.BATCH, 3, 16, 16), generator=generator)
    images = images.to(setting.device, torch.uint8)
    labels = torch.arange(len(images), device=setting.device) % 10
    epoch = Epoch(images, labels, 0, plan.BATCH, plan.PADDING)
    epoch.begin(0)
    return epoch


def synchronize(setting: Setting) -> None:
    if setting.device == 'cuda':
        torch.cuda.synchronize()


def loss_of_three_steps(arm: Arm, epoch: Epoch, setting: Setting) -> float:
    run = Run(arm, epoch, learning_rates(1000, 1), setting)
    run.prepare()
    for _ in range(3):
        run.step()
    synchronize(setting)
    return run.loss_sum.item() / 3


def smoke(setting: Setting, side_by_side: int, deadline: float) -> None:
    """Print the loss of three steps of each kind of arm, as a graph and eagerly, then the time of a step of many runs.

    Args:
        setting: How runs compute.
        side_by_side: How many runs are timed at once.
        deadline: Value of ``time.monotonic()`` after which nothing more begins.
    """
    epoch = random_epoch(setting)
    for arm in kinds():
        if time.monotonic() > deadline:
            return
        try:
            got = loss_of_three_steps(arm, epoch, setting)
            expected = loss_of_three_steps(arm, epoch, replace(setting, graph=False))
            far = abs(got - expected) > 0.01 * expected
            verdict = 'DIFFERS' if far or got != got else 'ok'
            print(f'{verdict}: {arm.name}: {got:.5f}, eager {expected:.5f}', flush=True)
        except Exception as error:
            print(f'FAILED: {arm.name}: {type(error).__name__}: {error}', flush=True)
    for family in ('STE', 'SURGE lite', 'SURGE'):
        for channels_last in (False, True):
            if time.monotonic() > deadline:
                return
            own = replace(setting, channels_last=channels_last)
            arm = plan.FAMILIES[family][3]
            started = time.perf_counter()
            runs = [Run(arm, epoch, learning_rates(1000, 1), own) for _ in range(side_by_side)]
            for run in runs:
                run.prepare()
            prepared = time.perf_counter()
            for _ in range(30):
                for run in runs:
                    run.step()
            synchronize(setting)
            ms = 1e3 * (time.perf_counter() - prepared) / 30 / len(runs)
            memory = torch.cuda.max_memory_allocated() / 2**30 if setting.device == 'cuda' else 0
            print(
                f'{family}, channels_last {channels_last}: {ms:.2f} ms a step of each of {len(runs)}, '
                f'prepared in {prepared - started:.1f} s, {memory:.1f} GiB',
                flush=True,
            )
            del runs, run
            gc.collect()
