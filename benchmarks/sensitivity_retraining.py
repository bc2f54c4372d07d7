"""Compare the report of tools/sensitivity.py with short retraining of each layer.

python tools/sensitivity.py CONFIG CHECKPOINT --work-dir work_dirs/sensitivity
python benchmarks/sensitivity_retraining.py work_dirs/sensitivity/sensitivity.json --work-dir work_dirs/retraining \
    --cfg-options train_cfg.max_epochs=2 param_scheduler.0.T_max=2

For each row of the report, a config with its layers alone in 1 bit is trained from the checkpoint by
tools/ablation.py. The script prints Spearman's rank correlation of the cost in the report and of the metric after
retraining, with the sign of a cost, and writes retraining.json. If it is interrupted, run it again: finished runs are
kept.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from mmengine.config import Config
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

import surge_mm  # noqa: F401  must be imported before the hosts
from surge_mm.analysis.ablation import ERRORS
from surge_mm.composition.binary_config import STE, binary_config, config_text
from surge_mm.launch.cli import Parser, run, setting
from surge_mm.utils.errors import LaunchError

ABLATION = Path(__file__).resolve().parents[1] / 'tools' / 'ablation.py'


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('report', help='sensitivity.json of tools/sensitivity.py')
    parser.add_argument('--work-dir', required=True, help='folder of all runs')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0])
    parser.add_argument('--jobs', type=int, default=1, help='number of parallel runs; default 1')
    parser.add_argument('--shortcuts', action='store_true', help='add shortcuts where possible')
    parser.add_argument(
        '--cfg-options', nargs='+', type=setting, default=[], metavar='KEY=VALUE', help='schedule'
    )
    args = parser.parse_args()
    if not Path(args.report).is_file():
        raise LaunchError(f'report {args.report!r}: there is no such file')
    report = json.loads(Path(args.report).read_text())
    work_dir = Path(args.work_dir).resolve()
    configs = write_configs(report, work_dir / 'configs', args.shortcuts)
    command = [sys.executable, str(ABLATION), *map(str, configs.values())]
    command += ['--work-dir', str(work_dir), '--metric', report['metric'], '--jobs', str(args.jobs)]
    command += ['--seeds', *map(str, args.seeds)]
    if args.cfg_options:
        command += ['--cfg-options', *args.cfg_options]
    subprocess.run(command, check=True)
    compare(report, configs, work_dir)


def write_configs(report: dict, folder: Path, shortcuts: bool) -> dict[str, Path]:
    """Write a config for each row of a report.

    Args:
        report (dict): Content of sensitivity.json.
        folder (Path): Folder of the configs.
        shortcuts (bool): Whether the binary layers get shortcuts where possible.

    Returns:
        dict[str, Path]: The config of each row.
    """
    folder.mkdir(parents=True, exist_ok=True)
    base = str(Path(report['config']).resolve())
    checkpoint = str(Path(report['checkpoint']).resolve())
    cfg = Config.fromfile(base)
    paths = {}
    for row in report['costs']:
        content = binary_config(cfg, base, STE, checkpoint)
        model = content['model']
        model.get('backbone', {}).pop('conv_cfg', None)
        to = {'shortcuts': True} if shortcuts else 'binary'
        model['rules'] = [{'name': name, 'to': to} for name in row['layers']] + [{'to': 'keep'}]
        paths[row['name']] = folder / f'{row["name"].replace(".", "-")}.py'
        paths[row['name']].write_text(config_text(content))
    return paths


def compare(report: dict, configs: dict[str, Path], work_dir: Path) -> None:
    """Print each row beside its retraining, and the rank correlation; write retraining.json.

    Args:
        report (dict): Content of sensitivity.json.
        configs (dict[str, Path]): The config of each row.
        work_dir (Path): Folder of the runs.
    """
    means = {row['name']: row['mean'] for row in json.loads((work_dir / 'table.json').read_text())}
    metric = report['metric']
    table = Table(title=f'{metric} without and with retraining')
    for column in ('binary', 'cost', 'loss', f'{metric} retrained'):
        table.add_column(column, justify='right')
    rows = []
    for row in report['costs']:
        retrained = means[configs[row['name']].stem]
        rows.append({**row, 'retrained': retrained})
        table.add_row(row['name'], f'{row["cost"]:.4f}', f'{row["loss"]:.4f}', f'{retrained:.4f}')
    Console(width=120).print(table)
    sign = 1 if metric in ERRORS else -1
    after = [sign * row['retrained'] for row in rows]
    spearman = {
        key: float(spearmanr([row[key] for row in rows], after).statistic)
        for key in ('cost', 'loss')
    }
    print(f"Spearman's rho over {len(rows)} rows: {spearman}")
    result = {'metric': metric, 'spearman': spearman, 'rows': rows}
    (work_dir / 'retraining.json').write_text(json.dumps(result, indent=2) + '\n')


if __name__ == '__main__':
    run(main, 'run the same command again to train the remaining runs')
