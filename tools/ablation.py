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
import sys
from pathlib import Path

from surge_mm.analysis.ablation import Run, find_baseline, plot, read_run, summarize
from surge_mm.analysis.ablation_tables import as_csv, as_json, latex, markdown
from surge_mm.composition.config_files import (
    find_configs,
    find_recipe,
    remember_configs,
    write_configs,
)
from surge_mm.composition.variants import Variant, changed, check_names, compose
from surge_mm.launch.cli import Parser, add_settings_of_train, check_least, parse_settings, run
from surge_mm.launch.config import read_config, with_names
from surge_mm.launch.trainings import (
    check_unfinished,
    is_finished,
    remember_settings,
    train_all,
)
from surge_mm.utils.atomic_write import write_atomically
from surge_mm.utils.errors import LaunchError, UsageError

TRAIN = Path(__file__).resolve().parent / 'train.py'


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
    add_settings_of_train(parser)
    args = parser.parse_args()

    check_least(args, 1, 'jobs')
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
        configs = find_configs(args.configs)
        check_names([*configs, *(one.name for one in variants)])
        composed = {
            one.name: changed(with_names(read_config(configs[one.base])), one) for one in variants
        }
        origins = {one.name: configs[one.base] for one in variants}
    baseline = find_baseline(args.baseline, [*configs, *composed])

    # Runs of one seed follow each other, so that a slow phase of the machine slows all variants alike.
    queue = [(name, seed) for seed in args.seeds for name in [*configs, *composed]]
    check_unfinished(queue, configs, composed, work_dir, args.cfg_options)
    plain = {name: with_names(read_config(path)) for name, path in configs.items()}
    remember_settings(work_dir / 'options.json', args.cfg_options)
    remember_configs(plain, configs, work_dir)
    configs |= write_configs(composed, origins, work_dir)
    failed = train_all(queue, configs, work_dir, args.cfg_options, args.jobs, TRAIN)
    report(work_dir, list(configs), args.seeds, baseline, args.metric)
    if failed:
        names = ', '.join(f'{name} seed {seed}' for name, seed in failed)
        raise LaunchError(f'failed: {names}; see train.log in the folder of each')


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
    finished = [(n, s) for n in names for s in seeds if is_finished(work_dir, n, s)]
    found: dict[tuple[str, int], Run] = {}
    errors: dict[tuple[str, int], UsageError] = {}
    for again in (False, True):  # the first run may have no metric, and another one has
        for name, seed in finished if not again else list(errors):
            try:
                metric, found[name, seed] = read_run(work_dir / name / f'seed_{seed}', metric)
                errors.pop((name, seed), None)
            except UsageError as error:
                errors[name, seed] = error
    for error in errors.values():
        print(f'not in the table: {error}', file=sys.stderr)
    if not found or metric is None:
        return
    runs: dict[str, dict[int, Run]] = {}
    for name, seed in finished:
        if (name, seed) in found:
            runs.setdefault(name, {})[seed] = found[name, seed]
    rows = summarize(runs, metric, baseline)
    table = markdown(rows, baseline)
    texts = {'md': table, 'json': as_json(rows), 'csv': as_csv(rows), 'tex': latex(rows, baseline)}
    for suffix, text in texts.items():
        write_atomically(work_dir / f'table.{suffix}', text.encode())
    picture = plot(runs, metric, work_dir / 'curves.png')
    names = [*(f'table.{suffix}' for suffix in texts), picture.name]
    print(f'{table}\nin {work_dir}: {", ".join(names)}')


if __name__ == '__main__':
    run(main, 'run the same command again to train the remaining runs')
