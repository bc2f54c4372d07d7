"""Train several methods or configs with several seeds; write one table and one picture of the curves.

python tools/ablation.py RECIPE --methods ste surge surge-lite recu --seeds 0 1 2 --work-dir work_dirs/a
python tools/ablation.py CONFIG [CONFIG ...] --seeds 0 1 2 --work-dir work_dirs/b

RECIPE is the name of a file in configs/_base_/recipes or the path of any config. A method is the name of a file in
configs/_base_/methods. The config composed of both is written to WORK_DIR/METHOD/METHOD_RECIPE.py.

Each run is a call of tools/train.py with the work dir WORK_DIR/VARIANT/seed_SEED. A variant is called by its method, or
by the name of its CONFIG. If the command is interrupted, run it again: finished runs are kept, and an unfinished run
resumes from its last checkpoint.
"""

import signal

if __name__ == '__main__' and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback of the imports, which take seconds

import argparse
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mmengine.config import Config
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from surge_mm.analysis.ablation import Run, as_json, markdown, plot, read_run, summarize
from surge_mm.analysis.methods import apply_method
from surge_mm.launch.cli import Parser, run, setting
from surge_mm.launch.config import with_names
from surge_mm.launch.resume import remember_settings
from surge_mm.utils.argument_checks import did_you_mean
from surge_mm.utils.errors import LaunchError

TRAIN = Path(__file__).resolve().parent / 'train.py'
BASE = TRAIN.parents[1] / 'configs' / '_base_'


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'configs',
        nargs='+',
        metavar='CONFIG',
        help='with --methods, one recipe or config; without, one config for each variant',
    )
    parser.add_argument('--methods', nargs='+', help='methods to apply to the recipe')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--work-dir', required=True, help='folder of all runs')
    parser.add_argument(
        '--baseline',
        help='variant whose time per step is the unit; default STE, or the first variant',
    )
    parser.add_argument('--metric', help='key of the log; default mAP or top-1 accuracy')
    parser.add_argument('--jobs', type=int, default=1, help='number of parallel runs; default 1')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        type=setting,
        default=[],
        metavar='KEY=VALUE',
        help='passed to train.py',
    )
    args = parser.parse_args()

    if args.jobs < 1:
        raise LaunchError(f'--jobs must be at least 1, got {args.jobs}')
    if (
        len(set(args.seeds)) < len(args.seeds)
        or not 0 <= min(args.seeds) <= max(args.seeds) < 2**32
    ):
        raise LaunchError(
            f'--seeds must be different numbers from 0 to 4294967295, got {args.seeds}'
        )
    work_dir = Path(args.work_dir)
    if args.methods is None:
        configs = {path.stem: path for path in find_configs(args.configs)}
        baseline = find_baseline(args.baseline, list(configs))
        remember_settings(work_dir / 'options.json', args.cfg_options)
    else:
        recipe = find_recipe(args.configs)
        composed = compose(recipe, args.methods)
        baseline = find_baseline(args.baseline, list(composed))
        remember_settings(work_dir / 'options.json', args.cfg_options)
        configs = write_configs(composed, recipe, work_dir)

    # Runs of one seed follow each other, so that a slow phase of the machine slows all variants alike.
    queue = [(name, seed) for seed in args.seeds for name in configs]
    failed = train_all(queue, configs, work_dir, args.cfg_options, args.jobs)
    report(work_dir, list(configs), args.seeds, baseline, args.metric)
    if failed:
        names = ', '.join(f'{name} seed {seed}' for name, seed in failed)
        raise LaunchError(f'failed: {names}; see train.log in the folder of each')


def find_configs(paths: list[str]) -> list[Path]:
    """Return the config files of the variants.

    Raises:
        LaunchError: if a file is missing, or two files have the same name.
    """
    for path in paths:
        if not Path(path).is_file():
            raise LaunchError(f'config {path!r}: there is no such file (looked from {Path.cwd()})')
    if len({Path(path).stem for path in paths}) < len(paths):
        raise LaunchError(f'configs must have different file names, got {paths}')
    return [Path(path) for path in paths]


def find_recipe(names: list[str]) -> Path:
    """Return the file of the recipe: a path, or a name in ``configs/_base_/recipes``.

    Raises:
        LaunchError: if there is more than one recipe, or no such file and no such recipe.
    """
    if len(names) > 1:
        raise LaunchError(f'--methods takes one recipe or config, got {len(names)}: {names}')
    name, known = names[0], files_of('recipes')
    if Path(name).is_file():
        return Path(name)
    if name not in known:
        raise LaunchError(
            f'{name!r} is neither a file (looked from {Path.cwd()}) nor a recipe of configs/_base_/recipes'
            f'{did_you_mean(name, known)}'
        )
    return known[name]


def compose(recipe: Path, methods: list[str]) -> dict[str, Config]:
    """Apply each method to the recipe.

    Args:
        recipe (Path): config file.
        methods (list[str]): names of files in ``configs/_base_/methods``.

    Returns:
        dict[str, Config]: composed config of each method.

    Raises:
        LaunchError: if a method is unknown or repeated, or the recipe cannot be read or has no binary layers.
    """
    known = files_of('methods')
    for method in methods:
        if method not in known:
            raise LaunchError(f'--methods {method!r} does not exist{did_you_mean(method, known)}')
    if len(set(methods)) < len(methods):
        raise LaunchError(f'--methods must be different, got {methods}')
    try:
        cfg = with_names(Config.fromfile(recipe))
    except Exception as error:  # a config is code of its author
        kind = type(error).__name__
        raise LaunchError(f'config {str(recipe)!r} cannot be read: {kind}: {error}') from error
    return {method: apply_method(cfg, Config.fromfile(known[method])) for method in methods}


def files_of(folder: str) -> dict[str, Path]:
    """Return the configs of a folder of ``configs/_base_`` by name."""
    return {path.stem: path for path in sorted((BASE / folder).glob('*.py'))}


def write_configs(composed: dict[str, Config], recipe: Path, work_dir: Path) -> dict[str, Path]:
    """Write each composed config into the folder of its variant.

    Args:
        composed (dict[str, Config]): composed config of each method.
        recipe (Path): config file of the recipe. A leading method in its name is left out of the names written.
        work_dir (Path): folder of all runs.

    Returns:
        dict[str, Path]: file of each method, WORK_DIR/METHOD/METHOD_RECIPE.py.

    Raises:
        LaunchError: if a folder holds runs of another config.
    """
    first, _, rest = recipe.stem.partition('_')
    name = rest if rest and first in files_of('methods') else recipe.stem
    paths = {method: work_dir / method / f'{method}_{name}.py' for method in composed}
    for method, path in paths.items():
        others = [other for other in path.parent.glob('*.py') if other != path]
        if others or (path.is_file() and path.read_text() != composed[method].pretty_text):
            raise LaunchError(
                f'{str(path.parent)!r} holds runs of another config, {(others or [path])[0].name!r}. Use another '
                '--work-dir'
            )
    for method, path in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(composed[method].pretty_text)
    return paths


def find_baseline(asked: str | None, names: list[str]) -> str:
    """Return the baseline of the relative times.

    Args:
        asked (str, optional): variant to use. Defaults to that of STE, or to the first variant.
        names (list[str]): all variants.

    Returns:
        str: one of ``names``.

    Raises:
        LaunchError: if there is no variant of that name.
    """
    if asked is None:
        return next((name for name in names if name.partition('_')[0] == 'ste'), names[0])
    if asked not in names:
        raise LaunchError(f'--baseline must be one of {", ".join(names)}, got {asked!r}')
    return asked


def train_all(
    queue: list[tuple[str, int]],
    configs: dict[str, Path],
    work_dir: Path,
    options: list[str],
    jobs: int,
) -> list[tuple[str, int]]:
    """Train all unfinished runs of a queue.

    Args:
        queue (list[tuple[str, int]]): variant and seed of each run.
        configs (dict[str, Path]): config of each variant.
        work_dir (Path): folder of all runs.
        options (list[str]): settings for ``--cfg-options`` of train.py.
        jobs (int): number of parallel runs.

    Returns:
        list[tuple[str, int]]: variant and seed of each run that failed.
    """
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

    def train(variant_and_seed: tuple[str, int]) -> None:
        name, seed = variant_and_seed
        folder = work_dir / name / f'seed_{seed}'
        if stopping.is_set():
            return
        if not (folder / 'finished').is_file():
            folder.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, str(TRAIN), str(configs[name])]
            command += ['--work-dir', str(folder), '--resume']
            command += ['--cfg-options', f'randomness.seed={seed}', *options]
            progress.update(bar, description=f'{name}, seed {seed}')
            with (folder / 'train.log').open('a') as log:
                child = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
                children.add(child)
                code = child.wait()
                children.discard(child)
            if code and not stopping.is_set():
                failed.append(variant_and_seed)
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
    """Write table.md, table.json and curves.png from the finished runs, and print the table.

    Args:
        work_dir (Path): folder of all runs.
        names (list[str]): variants.
        seeds (list[int]): seeds of each variant.
        baseline (str): variant whose time per step is the unit.
        metric (str, optional): key of the log. Defaults to the first known metric in the log.
    """
    runs: dict[str, dict[int, Run]] = {}
    for name in names:
        for seed in seeds:
            folder = work_dir / name / f'seed_{seed}'
            if (folder / 'finished').is_file():
                metric, runs.setdefault(name, {})[seed] = read_run(folder, metric)
    if not runs or metric is None:
        return
    rows = summarize(runs, metric, baseline)
    table = markdown(rows, baseline)
    (work_dir / 'table.md').write_text(table)
    (work_dir / 'table.json').write_text(as_json(rows))
    picture = plot(runs, metric, work_dir / 'curves.png')
    print(f'{table}\n{work_dir / "table.md"}\n{picture}')


if __name__ == '__main__':
    run(main, 'run the same command again to train the remaining runs')
