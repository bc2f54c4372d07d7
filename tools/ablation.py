"""Train several methods or configs with several seeds; write one table and one picture of the curves.

python tools/ablation.py RECIPE --methods ste surge my_method.py --seeds 0 1 2 --work-dir work_dirs/a
python tools/ablation.py RECIPE --methods ste --variant eta-0.3 surge custom_hooks.0.eta=0.3 --work-dir work_dirs/b
python tools/ablation.py CONFIG [CONFIG ...] --seeds 0 1 2 --work-dir work_dirs/c

RECIPE is the name of a file in configs/_base_/recipes or the path of any config. A method is the name of a file in
configs/_base_/methods or the path of a file of that form. The config composed of both is written to
WORK_DIR/METHOD/METHOD_RECIPE.py.

--variant NAME METHOD KEY=VALUE ... adds a variant, which is a method with other settings; give it as often as needed. A
KEY is one of the method (conv_cfg.weight.type, custom_hooks.0.eta) or of the recipe (optim_wrapper.optimizer.lr).
Without methods, --variant NAME CONFIG KEY=VALUE ... does the same with the name of one of the CONFIGs.

Each run is a call of tools/train.py with the work dir WORK_DIR/VARIANT/seed_SEED. A variant is called by its method, or
by the name of its CONFIG. If the command is interrupted, run it again: finished runs are kept, and an unfinished run
resumes from its last checkpoint.

The table has the mean of each variant over the seeds with its 95 % interval, and its difference to the baseline, paired
by seed, with interval and sign-flip test: table.md, table.csv, table.tex and table.json in WORK_DIR, beside the
picture curves.png.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from mmengine.config import Config

from surge_mm.analysis.ablation import (
    Run,
    as_csv,
    as_json,
    latex,
    markdown,
    plot,
    read_run,
    summarize,
)
from surge_mm.analysis.methods import apply_method
from surge_mm.analysis.variants import Variant, changed, check_eta
from surge_mm.launch.cli import Parser, parse_settings, run, setting
from surge_mm.launch.config import with_names
from surge_mm.launch.resume import remember_settings
from surge_mm.launch.trainings import check_builds, is_finished, train_all
from surge_mm.utils.errors import LaunchError
from surge_mm.utils.suggestions import did_you_mean

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
    parser.add_argument(
        '--variant',
        nargs='+',
        action='append',
        default=[],
        metavar=('NAME', 'METHOD KEY=VALUE'),
        help='a method with other settings; may be repeated',
    )
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--work-dir', required=True, help='folder of all runs')
    parser.add_argument(
        '--baseline',
        help='variant to compare with, in the metric and in time per step; default ste, or the first variant',
    )
    parser.add_argument(
        '--metric', help='key of the log; default mAP, top-1 accuracy or that of GLUE'
    )
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
    variants = [parse_variant(words) for words in args.variant]
    stems = [Path(path).stem for path in args.configs]
    configs: dict[str, Path] = {}
    if args.methods is not None or any(one.base not in stems for one in variants):
        recipe = find_recipe(args.configs)
        composed = compose(recipe, args.methods or [], variants)
        origins = dict.fromkeys(composed, recipe)
    else:
        configs = {path.stem: path for path in find_configs(args.configs)}
        check_names([*configs, *(one.name for one in variants)])
        composed = {one.name: changed(read_config(configs[one.base]), one) for one in variants}
        origins = {one.name: configs[one.base] for one in variants}
    baseline = find_baseline(args.baseline, [*configs, *composed])

    # Runs of one seed follow each other, so that a slow phase of the machine slows all variants alike.
    queue = [(name, seed) for seed in args.seeds for name in [*configs, *composed]]
    check_unfinished(queue, configs, composed, work_dir, args.cfg_options)
    remember_settings(work_dir / 'options.json', args.cfg_options)
    configs |= write_configs(composed, origins, work_dir)
    failed = train_all(queue, configs, work_dir, args.cfg_options, args.jobs, TRAIN)
    report(work_dir, list(configs), args.seeds, baseline, args.metric)
    if failed:
        names = ', '.join(f'{name} seed {seed}' for name, seed in failed)
        raise LaunchError(f'failed: {names}; see train.log in the folder of each')


def check_unfinished(
    queue: list[tuple[str, int]],
    configs: dict[str, Path],
    composed: dict[str, Config],
    work_dir: Path,
    options: list[str],
) -> None:
    """Check that each variant with an unfinished run can be built, before anything is written or trained.

    Args:
        queue (list[tuple[str, int]]): variant and seed of each run.
        configs (dict[str, Path]): config of each variant that has a file.
        composed (dict[str, Config]): config of each other variant.
        work_dir (Path): folder of all runs.
        options (list[str]): settings for ``--cfg-options`` of train.py.

    Raises:
        LaunchError: if a variant cannot be built.
    """
    unfinished = [run for run in queue if not is_finished(work_dir, *run)]
    with TemporaryDirectory() as folder:
        for name in dict.fromkeys(name for name, _ in unfinished):
            path = configs.get(name, Path(folder) / f'{name}.py')
            if name in composed:
                path.write_text(composed[name].pretty_text)
            check_builds(name, path, options)


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


def parse_variant(words: list[str]) -> Variant:
    """Return the variant of the words behind ``--variant``.

    Raises:
        LaunchError: if they are no name, base and settings ``KEY=VALUE``.
    """
    if len(words) < 2 or not re.fullmatch(r'\w[\w.+-]*', words[0]) or '=' in words[1]:
        raise LaunchError(
            f'--variant {" ".join(words)} must be NAME METHOD KEY=VALUE ..., with a name of letters, digits and -+._'
        )
    name, base, *texts = words
    return Variant(name, base, parse_settings(texts, f'--variant {" ".join(words)}'))


def check_names(names: list[str]) -> None:
    """Check that the names of the variants differ.

    Raises:
        LaunchError: if two are equal.
    """
    if len(set(names)) < len(names):
        raise LaunchError(f'variants must have different names, got {names}')


def read_config(path: Path) -> Config:
    """Read a config or a method.

    Raises:
        LaunchError: if it cannot be read.
    """
    try:
        cfg = with_names(Config.fromfile(path))
    except Exception as error:  # a config is code of its author
        kind = type(error).__name__
        raise LaunchError(f'config {str(path)!r} cannot be read: {kind}: {error}') from error
    if cfg.default_scope is None:  # a method has none
        cfg.pop('default_scope')
    return cfg


def compose(
    recipe: Path, methods: list[str], variants: Sequence[Variant] = ()
) -> dict[str, Config]:
    """Apply each method to the recipe.

    Args:
        recipe (Path): config file.
        methods (list[str]): names of files in ``configs/_base_/methods``, or paths.
        variants (Sequence[Variant]): methods with other settings. Defaults to none.

    Returns:
        dict[str, Config]: composed config of each method and variant.

    Raises:
        LaunchError: if a method is unknown or repeated, or the recipe cannot be read or has no binary layers.
    """
    known = files_of('methods')
    for method in [*methods, *(one.base for one in variants)]:
        if method not in known and not Path(method).is_file():
            raise LaunchError(
                f'method {method!r} is neither a file (looked from {Path.cwd()}) nor a method of configs/_base_/methods'
                f'{did_you_mean(method, known)}'
            )
    every = [*(Variant(Path(method).stem, method, {}) for method in methods), *variants]
    check_names([one.name for one in every])
    cfg = read_config(recipe)
    composed = {}
    for one in every:
        method = changed(read_config(known.get(one.base, Path(one.base))), one, cfg)
        check_eta(method, one)
        composed[one.name] = apply_method(cfg, method)
    return composed


def files_of(folder: str) -> dict[str, Path]:
    """Return the configs of a folder of ``configs/_base_`` by name."""
    return {path.stem: path for path in sorted((BASE / folder).glob('*.py'))}


def write_configs(
    composed: dict[str, Config], origins: dict[str, Path], work_dir: Path
) -> dict[str, Path]:
    """Write each composed config into the folder of its variant.

    Args:
        composed (dict[str, Config]): composed config of each variant.
        origins (dict[str, Path]): recipe or config of each variant. A leading method in its name is left out of the
            name written.
        work_dir (Path): folder of all runs.

    Returns:
        dict[str, Path]: file of each variant, WORK_DIR/VARIANT/VARIANT_RECIPE.py.

    Raises:
        LaunchError: if a folder holds runs of another config.
    """
    paths = {}
    for variant, cfg in composed.items():
        stem = origins[variant].stem
        first, _, rest = stem.partition('_')
        name = rest if rest and first in files_of('methods') else stem
        path = paths[variant] = work_dir / variant / f'{variant}_{name}.py'
        others = [other for other in path.parent.glob('*.py') if other != path]
        if others or (path.is_file() and path.read_text() != cfg.pretty_text):
            raise LaunchError(
                f'{str(path.parent)!r} holds runs of another config, {(others or [path])[0].name!r}. Use another '
                '--work-dir'
            )
    for variant, path in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(composed[variant].pretty_text)
    return paths


def find_baseline(asked: str | None, names: list[str]) -> str:
    """Return the baseline of the comparison.

    Args:
        asked (str, optional): variant to use, in upper or lower case. Defaults to that of STE, or to the first variant.
        names (list[str]): all variants.

    Returns:
        str: one of ``names``.

    Raises:
        LaunchError: if there is no variant of that name.
    """
    if asked is None:
        return next((name for name in names if name.partition('_')[0] == 'ste'), names[0])
    found = [name for name in names if name == asked] or [
        name for name in names if name.lower() == asked.lower()
    ]
    if not found:
        raise LaunchError(f'--baseline must be one of {", ".join(names)}, got {asked!r}')
    return found[0]


def report(
    work_dir: Path, names: list[str], seeds: list[int], baseline: str, metric: str | None
) -> None:
    """Write the table and curves.png from the finished runs, and print the table.

    Args:
        work_dir (Path): folder of all runs.
        names (list[str]): variants.
        seeds (list[int]): seeds of each variant.
        baseline (str): variant to compare with.
        metric (str, optional): key of the log. Defaults to the first known metric in the log.
    """
    runs: dict[str, dict[int, Run]] = {}
    for name in names:
        for seed in seeds:
            folder = work_dir / name / f'seed_{seed}'
            if is_finished(work_dir, name, seed):
                metric, runs.setdefault(name, {})[seed] = read_run(folder, metric)
    if not runs or metric is None:
        return
    rows = summarize(runs, metric, baseline)
    table = markdown(rows, baseline)
    texts = {'md': table, 'json': as_json(rows), 'csv': as_csv(rows), 'tex': latex(rows, baseline)}
    for suffix, text in texts.items():
        (work_dir / f'table.{suffix}').write_text(text)
    picture = plot(runs, metric, work_dir / 'curves.png')
    names = [*(f'table.{suffix}' for suffix in texts), picture.name]
    print(f'{table}\nin {work_dir}: {", ".join(names)}')


if __name__ == '__main__':
    run(main, 'run the same command again to train the remaining runs')
