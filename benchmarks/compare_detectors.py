"""Compare trained detectors on the test set of their configs, with intervals over test images and seeds.

python tools/ablation.py CONFIG_A CONFIG_B --seeds 0 1 2 --work-dir work_dirs/runs
python benchmarks/compare_detectors.py work_dirs/runs/A work_dirs/runs/B

Each folder holds the runs of one variant, seed_0, seed_1, ... The last checkpoint of each run is evaluated by
tools/test.py, and its detections stay in the folder of the run: they are used until the run has a later checkpoint.
The script prints the VOC mAP (IoU 0.5, area) and the COCO mAP (IoU 0.5 to 0.95) of every run, and the differences
between each variant and the first one. All variants need the same seeds. The intervals are quantiles of a paired
bootstrap: each resample draws test images and seeds with replacement, the same ones for both variants. comparison.json
beside the first folder has all numbers.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from benchmark_cases.average_precision import FUNCTIONS, Matches, mean_ap
from mmengine.config import Config
from pycocotools.coco import COCO
from rich.console import Console
from rich.progress import track
from rich.table import Table

import surge_mm  # noqa: F401  must be imported before the hosts
from surge_mm.launch.cli import Parser, run
from surge_mm.launch.resume import newest_checkpoint
from surge_mm.utils.errors import LaunchError

TEST = Path(__file__).resolve().parents[1] / 'tools' / 'test.py'
METRICS = ('voc', 'coco')


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('variants', nargs='+', help='folders of variants, the baseline first')
    parser.add_argument('--resamples', type=int, default=2000, help='default: 2000')
    parser.add_argument('--level', type=float, default=0.95, help='of the intervals; default: 0.95')
    args = parser.parse_args()
    if args.resamples < 100 or not 0 < args.level < 1:
        raise LaunchError(
            f'--resamples {args.resamples} must be at least 100, --level {args.level} between 0 and 1'
        )
    folders = [Path(variant) for variant in args.variants]
    seeds = common_seeds(folders)
    matches = {
        folder.name: [
            {metric: FUNCTIONS[metric](*detections(folder / seed)) for metric in METRICS}
            for seed in seeds
        ]
        for folder in folders
    }
    report = compare(matches, args.resamples, args.level)
    report |= {'seeds': seeds, 'resamples': args.resamples, 'level': args.level}
    out = folders[0].parent / 'comparison.json'
    out.write_text(json.dumps(report, indent=1) + '\n')
    show(report)
    print(f'wrote {out}')


def common_seeds(folders: list[Path]) -> list[str]:
    """Return the names of the runs, which all variants must have.

    Args:
        folders (list[Path]): Folders of the variants.

    Raises:
        LaunchError: if two folders have one name, or a folder has no runs or other seeds than the first.
    """
    names = [folder.name for folder in folders]
    if len(set(names)) < len(names):
        raise LaunchError(f'the folders {names} must have different names, which the table shows')
    found = {folder: sorted(path.name for path in folder.glob('seed_*')) for folder in folders}
    first = found[folders[0]]
    for folder, seeds in found.items():
        if not seeds:
            raise LaunchError(f'{str(folder)!r} has no folder seed_0, as tools/ablation.py makes')
        if seeds != first:
            raise LaunchError(f'{str(folder)!r} has {seeds}, {str(folders[0])!r} has {first}')
    return first


def detections(folder: Path) -> tuple[COCO, COCO]:
    """Return the annotations of the test set, and the detections of a run's last checkpoint.

    Args:
        folder (Path): Folder of the run.

    Raises:
        LaunchError: if the folder has no checkpoint, or not one config with a CocoMetric for the test set, or the
            evaluation fails.
    """
    config, key, evaluator = coco_metric(folder)
    prefix = (folder / 'test' / 'test').resolve()
    results = prefix.with_suffix('.bbox.json')
    checkpoint = newest_checkpoint(folder)
    if checkpoint is None and not results.exists():
        raise LaunchError(f'{str(folder)!r} has no checkpoint: is its run finished?')
    if checkpoint and not (results.exists() and is_newer(results, checkpoint)):
        options = f'{key}.outfile_prefix={prefix}'
        command = [sys.executable, TEST, config, checkpoint, '--work-dir', prefix.parent]
        try:
            subprocess.run([*command, '--cfg-options', options], check=True)
        except subprocess.CalledProcessError:
            raise LaunchError(f'{str(folder)!r}: tools/test.py failed, see above') from None
    truth = prefix.with_suffix('.gt.json')  # written where the metric has no ann_file
    if not json.loads(results.read_text()):
        raise LaunchError(f'{str(folder)!r}: the detector finds nothing in the test images')
    coco = COCO(evaluator.get('ann_file') or str(truth))
    return coco, coco.loadRes(str(results))


def is_newer(file: Path, than: Path) -> bool:
    return file.stat().st_mtime >= than.stat().st_mtime


def config_of(folder: Path) -> Path:
    """Return the config that the run has written to its folder."""
    configs = list(folder.glob('*.py'))
    if len(configs) != 1:
        raise LaunchError(f'{str(folder)!r} must have one config, got {[c.name for c in configs]}')
    return configs[0]


def coco_metric(folder: Path) -> tuple[Path, str, dict]:
    """Return the config of a run, and the key and the settings of the CocoMetric of its test set."""
    config = config_of(folder)
    found = Config.fromfile(config).get('test_evaluator') or []
    several = found if isinstance(found, list) else [found]
    for number, evaluator in enumerate(several):
        if evaluator['type'].removeprefix('mmdet.') == 'CocoMetric':
            key = 'test_evaluator' if several is not found else f'test_evaluator.{number}'
            return config, key, evaluator
    raise LaunchError(f'{str(config)!r}: test_evaluator needs a CocoMetric, which writes boxes')


def compare(
    matches: dict[str, list[dict[str, list[Matches]]]], resamples: int, level: float
) -> dict[str, dict]:
    """Return the metrics of each run, and the differences between each variant and the first, with their intervals.

    Args:
        matches (dict): For each variant, the matches by metric of each seed.
        resamples (int): Number of resamples of images and seeds.
        level (float): Level of the intervals, between 0 and 1.

    Returns:
        dict: ``metrics[variant][metric]`` lists the runs. ``differences[variant][metric]`` holds ``mean``, ``low`` and
        ``high``.
    """
    baseline, *others = matches
    seeds = len(matches[baseline])
    images = len(matches[baseline][0]['voc'][0].objects)
    metrics = {
        name: {m: [mean_ap(seed[m], m) for seed in runs] for m in METRICS}
        for name, runs in matches.items()
    }
    rng = np.random.default_rng(0)
    samples = {name: {m: np.empty(resamples) for m in METRICS} for name in matches}
    for number in track(range(resamples), 'bootstrap'):
        weights = np.bincount(rng.integers(images, size=images), minlength=images).astype(float)
        drawn = np.bincount(rng.integers(seeds, size=seeds), minlength=seeds)
        for name, runs in matches.items():
            for m in METRICS:
                values = [
                    times * mean_ap(run[m], m, weights)
                    for run, times in zip(runs, drawn, strict=True)
                    if times
                ]
                samples[name][m][number] = sum(values) / seeds
    tail = (1 - level) / 2
    differences: dict[str, dict] = {}
    for name in others:
        differences[name] = {}
        for m in METRICS:
            low, high = np.quantile(samples[name][m] - samples[baseline][m], [tail, 1 - tail])
            mean = np.mean(metrics[name][m]) - np.mean(metrics[baseline][m])
            differences[name][m] = {'mean': mean, 'low': low, 'high': high}
    return {'metrics': metrics, 'differences': differences}


def show(report: dict) -> None:
    """Print the report as a table."""
    level = f'{report["level"]:.0%}'
    table = Table(
        'variant', title=f'{", ".join(report["seeds"])}; difference with {level} interval'
    )
    for metric in ('VOC mAP', 'COCO mAP'):
        table.add_column(metric)
        table.add_column('difference')
    for name, metrics in report['metrics'].items():
        row = [name]
        for metric in METRICS:
            values = metrics[metric]
            row.append(f'{np.mean(values):.4f} ({" ".join(f"{v:.4f}" for v in values)})')
            if name in report['differences']:
                d = report['differences'][name][metric]
                row.append(f'{d["mean"]:+.4f} ({d["low"]:+.4f} to {d["high"]:+.4f})')
            else:
                row.append('')
        table.add_row(*row)
    Console(width=160).print(table)


if __name__ == '__main__':
    run(main)
