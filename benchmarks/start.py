"""Measure the start of a program that finds boxes: CPU time and memory from `import torch` to the first boxes.

python benchmarks/start.py detector.safetensors image.jpg
python benchmarks/start.py detector.safetensors image.jpg --runs 9 --json start.json

Each run is a fresh process on one thread, in turns with and without surge_mm.deploy.lean_imports. Medians of the runs
are reported. Each row has what the step adds: seconds of CPU time, and MB (10^6 bytes) of resident memory. One process
before them compiles the loops. The modules that take the time: python -X importtime -c "import surge_mm". Linux only.
"""

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

STATUS = Path('/proc/self/status')
STEPS = ('import torch', 'import surge_mm', 'Detector(file)', 'first boxes')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('model', help='packed file of a detector')
    parser.add_argument('image', help='file of an image')
    parser.add_argument('--runs', type=int, default=5, help='processes of each kind; default: 5')
    parser.add_argument('--json', metavar='FILE', help='also write the figures to this file')
    parser.add_argument('--lean', action='store_true', help=argparse.SUPPRESS)
    parser.add_argument('--once', action='store_true', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.once:
        print(json.dumps(run_once(args)))
        return
    if args.runs < 1:
        sys.exit(f'--runs {args.runs} must be at least 1')
    if args.json and Path(args.json).exists():
        sys.exit(f'--json {args.json!r} exists already: name another file')
    started(args.model, args.image, lean=False)
    kinds = {'default': False, 'lean_imports': True}
    runs = [
        {kind: started(args.model, args.image, lean) for kind, lean in kinds.items()}
        for _ in range(args.runs)
    ]
    figures = {
        kind: [[median(run[kind][i][j] for run in runs) for j in range(2)] for i in range(4)]
        for kind in kinds
    }
    print(f'{"":16}' + ''.join(f'{kind:>24}' for kind in kinds))
    for i, step in enumerate(STEPS):
        print(row(step, [figures[kind][i] for kind in kinds]))
    after = [[sum(step[j] for step in figures[kind][1:]) for j in range(2)] for kind in kinds]
    print(row('after torch', after))
    if args.json:
        Path(args.json).write_text(json.dumps({'steps': STEPS, **figures}, indent=1) + '\n')


def row(name: str, pairs: list[list[float]]) -> str:
    """Return a line of seconds and MB."""
    return f'{name:16}' + ''.join(f'{seconds:12.2f} s {mb:7.0f} MB' for seconds, mb in pairs)


def started(model: str, image: str, lean: bool) -> list[list[float]]:
    """Return the seconds and MB that each step adds in a fresh process."""
    words = [sys.executable, __file__, model, image, '--once', *(['--lean'] if lean else [])]
    done = subprocess.run(
        words, capture_output=True, text=True, env={**os.environ, 'OMP_NUM_THREADS': '1'}
    )
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def run_once(args: argparse.Namespace) -> list[list[float]]:
    """Run the steps in this process."""
    marks = [usage()]
    import torch

    torch.set_num_threads(1)
    marks.append(usage())
    import surge_mm

    marks.append(usage())
    deploy = surge_mm.deploy
    with deploy.lean_imports() if args.lean else contextlib.nullcontext():
        detector = deploy.Detector(args.model)
    marks.append(usage())
    detector(args.image)
    marks.append(usage())
    pairs = zip(marks[1:], marks[:-1], strict=True)
    return [[now - then for now, then in zip(*pair, strict=True)] for pair in pairs]


def usage() -> tuple[float, float]:
    """Return the CPU seconds of this process so far, and its resident memory in MB."""
    match = re.search(r'VmRSS:\s+(\d+) kB', STATUS.read_text())
    assert match is not None
    return time.process_time(), int(match[1]) * 1024 / 1e6


if __name__ == '__main__':
    main()
