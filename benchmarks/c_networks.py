"""Time the network of an exported C file against the packed network in Python, and its threads against one.

python benchmarks/c_networks.py CONFIG --shape 320 320
python benchmarks/c_networks.py CONFIG --shape 320 320 --real int8
python benchmarks/c_networks.py CONFIG --shape 320 320 --threads 1 2 --folder work_dirs/c

Weights are random, and int8 is calibrated on noise. Python runs the network as Detector does, by its operations without
the modules, and by its modules, both on one thread. All take turns in one process, of two runs each, the second of
which is measured. The maps of C are compared with those of Python before. Medians of the CPU time of all threads and of
the time of the clock are printed; the ratios are those of CPU times against Python, and of the clock between numbers of
threads. The compiler is that of CC. --folder keeps the C file and its libraries, and uses libraries that are there, so
that they can be compiled before.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from benchmark_cases.c_model import NAME, Library
from mmengine.registry import init_default_scope

from surge_mm.analysis.timing import cpu_name
from surge_mm.deploy import CapturedNetwork, instruction_set, pack
from surge_mm.deploy.c.export import export_c
from surge_mm.deploy.onnx.export import outputs_of
from surge_mm.launch.cli import Parser, add_settings, run
from surge_mm.launch.config import load_config
from surge_mm.launch.runner import build_model

MODULES, CAPTURED = 'Python, modules', 'Python'


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='path of a config file')
    parser.add_argument('--shape', nargs=2, type=int, default=(320, 320), help='default 320 320')
    parser.add_argument('--real', choices=('float32', 'int8'), default='float32')
    parser.add_argument('--threads', type=int, nargs='+', default=[1], help='of C; default 1')
    parser.add_argument('--rounds', type=int, default=100, help='runs of each; default 100')
    parser.add_argument('--folder', help='folder for the C file and its libraries')
    add_settings(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.folder or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        cpu, clock = measure(args, folder)
    print(f'{Path(args.config).stem}, {args.real}, {cpu_name()}, {instruction_set()}')
    print('| | CPU, ms | clock, ms |\n| --- | --- | --- |')
    for name in cpu:
        print(f'| {name} | {median(cpu[name]):.3f} | {median(clock[name]):.3f} |')
    one, *others = (of_c(threads) for threads in args.threads)
    for python in (CAPTURED, MODULES):
        print(f'{one} by {python}: {median(cpu[one]) / median(cpu[python]):.2f}')
    for other in others:
        print(f'{other} by {one}: {median(clock[other]) / median(clock[one]):.2f}')


def of_c(threads: int) -> str:
    return f'C, {threads} threads' if threads > 1 else 'C'


Times = dict[str, list[float]]
"""Milliseconds of each round."""


@torch.no_grad()
def measure(args: argparse.Namespace, folder: Path) -> tuple[Times, Times]:
    """Return CPU times and times of the clock of all variants.

    Raises:
        AssertionError: if the maps in C differ from those in Python.
    """
    torch.manual_seed(0)
    cfg = load_config(args)
    init_default_scope(cfg.default_scope)
    model: Any = build_model(cfg)
    size = tuple(args.shape)
    noise = [torch.randn(1, 3, *size)] if args.real == 'int8' else None
    pack(model.eval(), args.real, noise)
    image = torch.randn(1, 3, *size)
    forward = partial(outputs_of, model)
    expected = list(forward(image).values())
    # without its config, a detector is exported as its network alone
    made = export_c(model, folder / f'{NAME}.c', size)
    runs: dict[str, Callable[[], object]] = {}
    for threads in args.threads:
        library = Library(folder, made, len(expected), threads if max(args.threads) > 1 else None)
        for one, other in zip(library.maps(image), expected, strict=True):
            torch.testing.assert_close(one.reshape(other.shape), other, rtol=1e-3, atol=1e-3)
        runs[of_c(threads)] = library.prepared(image)
    channels_last = image.to(memory_format=torch.channels_last)
    runs[CAPTURED] = partial(CapturedNetwork(model, forward), channels_last)
    runs[MODULES] = partial(forward, channels_last)
    cpu: Times = {name: [] for name in runs}
    clock: Times = {name: [] for name in runs}
    with torch.inference_mode():
        for number in range(args.rounds + 2):  # a network is captured at its second call
            for name, call in runs.items():
                call()
                starts = time.process_time(), time.perf_counter()
                call()
                if number >= 2:
                    cpu[name].append(1e3 * (time.process_time() - starts[0]))
                    clock[name].append(1e3 * (time.perf_counter() - starts[1]))
    return cpu, clock


if __name__ == '__main__':
    run(main, 'nothing was written')
