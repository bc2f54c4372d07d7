"""Compare trained text classifiers on one split of their task, with intervals over rows and seeds.

python tools/ablation.py RECIPE --methods fp ste surge --seeds 0 1 2 --work-dir work_dirs/runs
python benchmarks/compare_text.py work_dirs/runs/ste work_dirs/runs/fp work_dirs/runs/surge --split holdout

Each folder holds the runs of one variant, seed_0, seed_1, ... The last checkpoint of each run is evaluated by
tools/test.py on the split, and its predictions stay in the folder of the run: they are used until the run has a later
checkpoint. The script prints the accuracy and the mean loss, -log p(label), of each run, and the differences between
each variant and the first one. All variants need the same seeds. The intervals are quantiles of a paired bootstrap:
each resample draws rows and seeds with replacement, the same ones for both variants. comparison_SPLIT.json beside the
first folder has all numbers.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from compare_detectors import common_seeds, config_of, is_newer
from rich.console import Console
from rich.table import Table

import surge_mm  # noqa: F401  must be imported before the hosts
from surge_mm.analysis.paired import bootstrap_interval
from surge_mm.launch.cli import Parser, check_least, run
from surge_mm.launch.resume import newest_checkpoint
from surge_mm.utils.errors import LaunchError

TEST = Path(__file__).resolve().parents[1] / 'tools' / 'test.py'


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('variants', nargs='+', help='folders of variants, the baseline first')
    parser.add_argument('--split', default='dev', help='split of the task; default: dev')
    parser.add_argument('--resamples', type=int, default=2000, help='default: 2000')
    args = parser.parse_args()
    check_least(args, 100, 'resamples')
    folders = [Path(variant) for variant in args.variants]
    seeds = common_seeds(folders)
    runs = {
        folder / seed: predictions(folder / seed, args.split)
        for folder in folders
        for seed in seeds
    }
    check_labels(runs)
    values = {folder.name: rows_of([runs[folder / seed] for seed in seeds]) for folder in folders}
    report = {'split': args.split, 'seeds': seeds, **compare(values, args.resamples)}
    out = folders[0].parent / f'comparison_{args.split}.json'
    out.write_text(json.dumps(report, indent=1) + '\n')
    show(report)
    print(f'wrote {out}')


def predictions(folder: Path, split: str) -> list[list]:
    """Return label and scores of each row, by a run's last checkpoint.

    Args:
        folder (Path): Folder of the run.
        split (str): Split of the task.

    Raises:
        LaunchError: if the folder has no checkpoint, or not one config, or the evaluation fails.
    """
    config, checkpoint = config_of(folder), newest_checkpoint(folder)
    out = folder / 'test' / f'{split}.json'
    if checkpoint is None:
        raise LaunchError(f'{str(folder)!r} has no checkpoint: is its run finished?')
    if not (out.exists() and is_newer(out, checkpoint)):
        out.parent.mkdir(exist_ok=True)
        command = [sys.executable, TEST, config, checkpoint, '--work-dir', out.parent]
        command += ['--cfg-options', f'test_dataloader.dataset.split={split}']
        command += [f'test_evaluator.outfile={out.resolve()}']
        try:
            subprocess.run(command, check=True)
        except subprocess.CalledProcessError:
            raise LaunchError(f'{str(folder)!r}: tools/test.py failed, see above') from None
    return json.loads(out.read_text())


def check_labels(runs: dict[Path, list[list]]) -> None:
    """Check that the rows of all runs have the same labels, as rows of one split have.

    Args:
        runs (dict[Path, list[list]]): Label and scores of each row, by the folder of the run.

    Raises:
        LaunchError: if a run has other labels than the first one.
    """
    labels = {folder: [label for label, _ in rows] for folder, rows in runs.items()}
    first = next(iter(labels))
    for folder, found in labels.items():
        if found != labels[first]:
            raise LaunchError(
                f'{str(folder)!r} has predictions of other rows than {str(first)!r}: {len(found)} and '
                f'{len(labels[first])} rows, with other labels. Compare runs of one task; if its data have changed, '
                'remove the folder test of each run'
            )


def rows_of(runs: list[list[list]]) -> dict[str, np.ndarray]:
    """Return accuracy in percent and loss of each row.

    Args:
        runs (list[list[list]]): Label and scores of each row, for each seed.

    Returns:
        dict[str, np.ndarray]: ``accuracy`` and ``loss``, shape (seeds, rows).

    Raises:
        LaunchError: if the predictions are scores instead of classes.
    """
    if len(runs[0][0][1]) < 2:
        raise LaunchError(
            'the predictions have one score: compare_text.py needs a task with classes'
        )
    labels = np.array([label for label, _ in runs[0]])
    scores = np.array([[score for _, score in rows] for rows in runs])
    own = scores[:, np.arange(len(labels)), labels]
    return {
        'accuracy': 100.0 * (scores.argmax(2) == labels),
        'loss': -np.log(np.maximum(own, np.finfo(np.float32).tiny)),
    }


def compare(values: dict[str, dict[str, np.ndarray]], resamples: int) -> dict[str, dict]:
    """Return the means of each run, and the differences between each variant and the first, with intervals.

    Args:
        values (dict): For each variant, the result of :func:`rows_of`.
        resamples (int): Number of resamples of rows and seeds.

    Returns:
        dict: ``metrics[variant][metric]`` lists the runs. ``differences[variant][metric]`` holds ``mean``, ``low`` and
        ``high``.
    """
    baseline, *others = values
    metrics = {
        name: {metric: rows.mean(1).tolist() for metric, rows in found.items()}
        for name, found in values.items()
    }
    differences: dict[str, dict] = {}
    for name in others:
        differences[name] = {}
        for metric, rows in values[name].items():
            gap = rows - values[baseline][metric]
            low, high = bootstrap_interval(gap, resamples)
            differences[name][metric] = {'mean': float(gap.mean()), 'low': low, 'high': high}
    return {'metrics': metrics, 'differences': differences}


def show(report: dict) -> None:
    """Print the report as a table."""
    title = f'{report["split"]}, {", ".join(report["seeds"])}; difference with 95% interval'
    table = Table('variant', title=title)
    for metric in ('accuracy', 'loss'):
        table.add_column(metric)
        table.add_column('difference')
    for name, metrics in report['metrics'].items():
        row = [name]
        for metric, digits in (('accuracy', 2), ('loss', 4)):
            each = ' '.join(f'{value:.{digits}f}' for value in metrics[metric])
            row.append(f'{np.mean(metrics[metric]):.{digits}f} ({each})')
            found = report['differences'].get(name, {}).get(metric)
            row.append(
                ''
                if found is None
                else f'{found["mean"]:+.{digits}f} ({found["low"]:+.{digits}f} to {found["high"]:+.{digits}f})'
            )
        table.add_row(*row)
    Console(width=160).print(table)


if __name__ == '__main__':
    run(main)
