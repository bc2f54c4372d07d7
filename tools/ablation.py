"""Train variants of one recipe with several seeds in turn; write one table and one picture of the curves.

python tools/ablation.py configs/cifar10/resnet20_600e_cifar10_{ste,dpgc,surge}.py --seeds 0 1 2 --work-dir work_dirs/a

Each run is a call of tools/train.py with a work dir of its own, WORK_DIR/VARIANT/seed_SEED. Stopped, the same command
goes on where it was: finished runs are kept, an unfinished one resumes from its last checkpoint.
"""

import argparse
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import compress
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from surge_mm.analysis.ablation import Run, as_json, markdown, plot, read_run, summarise
from surge_mm.launch.cli import Parser, run, setting
from surge_mm.launch.resume import remember_settings
from surge_mm.utils.errors import LaunchError

TRAIN = Path(__file__).resolve().parent / 'train.py'


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='+', help='one config a variant, of one recipe')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--work-dir', required=True, help='folder of all runs')
    parser.add_argument(
        '--baseline',
        help='variant whose step is the unit of time; default the one that ends in ste',
    )
    parser.add_argument('--metric', help='key of the log; default mAP or top-1 accuracy')
    parser.add_argument('--jobs', type=int, default=1, help='runs side by side; default 1')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        type=setting,
        default=[],
        metavar='KEY=VALUE',
        help='passed on to train.py',
    )
    args = parser.parse_args()

    variants = name_variants(args.configs)
    baseline = find_baseline(args.baseline, list(variants))
    if args.jobs < 1:
        raise LaunchError(f'--jobs {args.jobs} must be at least 1')
    if (
        len(set(args.seeds)) < len(args.seeds)
        or not 0 <= min(args.seeds) <= max(args.seeds) < 2**32
    ):
        raise LaunchError(f'--seeds {args.seeds} must differ, and lie in 0 to 4294967295')
    work_dir = Path(args.work_dir)
    remember_settings(work_dir / 'options.json', args.cfg_options)

    # in turn, so that what slows the machine for a while slows all variants alike
    queue = [(name, seed) for seed in args.seeds for name in variants]
    failed = train_all(queue, variants, work_dir, args.cfg_options, args.jobs)
    report(work_dir, list(variants), args.seeds, baseline, args.metric)
    if failed:
        names = ', '.join(f'{name} seed {seed}' for name, seed in failed)
        raise LaunchError(f'failed: {names}; see train.log in the folder of each')


def name_variants(configs: list[str]) -> dict[str, str]:
    """Call each config by what sets its name apart from the others."""
    paths = {Path(config).stem: config for config in configs}
    missing = [config for config in configs if not Path(config).is_file()]
    if missing:
        raise LaunchError(
            f'config {missing[0]!r}: there is no such file (looked from {Path.cwd()})'
        )
    if len(paths) < len(configs):
        raise LaunchError(f'configs {configs} must have different names')
    words = {stem: stem.split('_') for stem in paths}
    if len(paths) == 1:
        return paths
    if len({len(w) for w in words.values()}) == 1:
        differ = [len(set(at)) > 1 for at in zip(*words.values(), strict=True)]
        words = {stem: list(compress(w, differ)) for stem, w in words.items()}
    else:
        while min(map(len, words.values())) > 1 and len({w[0] for w in words.values()}) == 1:
            words = {stem: w[1:] for stem, w in words.items()}
    return {'_'.join(w): paths[stem] for stem, w in words.items()}


def find_baseline(asked: str | None, names: list[str]) -> str:
    """The variant asked for, else the one of STE, else the first."""
    if asked is None:
        return next((name for name in names if name.split('_')[-1] == 'ste'), names[0])
    if asked not in names:
        raise LaunchError(f'--baseline {asked!r} is none of the variants: {", ".join(names)}')
    return asked


def train_all(
    queue: list[tuple[str, int]],
    variants: dict[str, str],
    work_dir: Path,
    options: list[str],
    jobs: int,
) -> list[tuple[str, int]]:
    """Make all runs of the queue that are not finished; returns those that failed."""
    environment = dict(os.environ)
    environment.setdefault('OMP_NUM_THREADS', str(max((os.cpu_count() or 1) // jobs, 1)))
    failed = []
    children: set[subprocess.Popen] = set()
    stopping = threading.Event()
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )

    def train(one: tuple[str, int]) -> None:
        name, seed = one
        folder = work_dir / name / f'seed_{seed}'
        if stopping.is_set():
            return
        if not (folder / 'finished').is_file():
            folder.mkdir(parents=True, exist_ok=True)
            command = [
                sys.executable,
                str(TRAIN),
                variants[name],
                '--work-dir',
                str(folder),
                '--resume',
            ]
            command += ['--cfg-options', f'randomness.seed={seed}', *options]
            progress.update(bar, description=f'{name}, seed {seed}')
            with (folder / 'train.log').open('a') as log:
                child = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
                children.add(child)
                code = child.wait()
                children.discard(child)
            if code and not stopping.is_set():
                failed.append(one)
            elif not code:
                (folder / 'finished').touch()
        progress.advance(bar)

    with Progress(*columns) as progress, ThreadPoolExecutor(jobs) as pool:
        bar = progress.add_task('runs', total=len(queue))
        try:
            for _ in pool.map(train, queue):
                pass
        except KeyboardInterrupt:
            stopping.set()
            for child in list(children):
                child.terminate()
            raise
    return failed


def report(
    work_dir: Path, names: list[str], seeds: list[int], baseline: str, metric: str | None
) -> None:
    """Write table.md, table.json and curves.png from the finished runs, and print the table."""
    runs: dict[str, dict[int, Run]] = {}
    for name in names:
        for seed in seeds:
            folder = work_dir / name / f'seed_{seed}'
            if (folder / 'finished').is_file():
                metric, runs.setdefault(name, {})[seed] = read_run(folder, metric)
    if not runs or metric is None:
        return
    rows = summarise(runs, metric, baseline)
    table = markdown(rows, baseline)
    (work_dir / 'table.md').write_text(table)
    (work_dir / 'table.json').write_text(as_json(rows))
    picture = plot(runs, metric, work_dir / 'curves.png')
    print(f'{table}\n{work_dir / "table.md"}\n{picture}')


if __name__ == '__main__':
    run(main, 'the same command goes on with what is left')
