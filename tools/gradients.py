"""Report the gradients of each binary layer of a model with SURGE's branch, at checkpoints of its training.

python tools/gradients.py my_config.py work_dirs/my_config/epoch_12.pth --work-dir work_dirs/gradients
python tools/gradients.py my_config.py work_dirs/my_config/epoch_*.pth --work-dir work_dirs/gradients --probe

For each call of a layer on the first batch of the training set: lambda, cos(g_b, g_a), ||W_a|| / ||W_b||, the share of
clipped activations, the growth of the gradient, the noise between half-batches, and with --probe the true slope of the
loss against the predicted one and the eta that the slopes ask for. The formulas are in surge_mm/analysis/gradients,
report.py and probe.py. Nothing is trained. The tool prints a table, and writes gradients.json and gradients.png.
"""

import argparse
import json
import math
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import HOOKS
from mmengine.runner import Runner, set_random_seed
from rich.progress import track
from rich.table import Table

import surge_mm
from surge_mm.analysis.gradients.plots import plot_gradients, report_value
from surge_mm.analysis.gradients.probe import check_probe
from surge_mm.analysis.gradients.report import NO_BRANCH, measure_gradients
from surge_mm.analysis.tables import wide_console
from surge_mm.checkpoint.checked import load_checked, read_checked
from surge_mm.launch.cli import Parser, add_settings, run
from surge_mm.launch.config import load_config
from surge_mm.launch.output_files import add_report_folder, check_report_folder
from surge_mm.launch.resume import check_checkpoint
from surge_mm.launch.runner import build_model, check_data
from surge_mm.layers import compensated_layers
from surge_mm.utils.atomic_write import write_json
from surge_mm.utils.errors import LaunchError

PROBED = {
    'g_b': 'true /\npredicted\ng_b',
    'g_a': 'true /\npredicted\ng_a',
    'best_eta': 'best\neta',
}
"""Titles of the values of the probe."""
SETTERS = (
    surge_mm.AdaptiveGradientScalerHook,
    surge_mm.BinarizerScheduleHook,
    surge_mm.SurrogateGradientHook,
)
"""Hooks that set what a layer computes in training."""


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='path of the config of the training')
    parser.add_argument('checkpoint', nargs='*', help='paths of its checkpoints')
    add_report_folder(parser)
    parser.add_argument(
        '--probe',
        type=float,
        nargs='?',
        const=0.1,
        metavar='STEP',
        help='probe the loss along g_b and g_a, by a step relative to the norm of the input; default 0.1',
    )
    parser.add_argument(
        '--reports', metavar='JSON', help='gradients.json of GradientReportHook, to draw as well'
    )
    add_settings(parser)
    args = parser.parse_args()

    check_probe(args.probe)
    check_report_folder(args, 'gradients.json')
    if not args.checkpoint and args.reports is None:
        raise LaunchError('checkpoint: give at least one, or --reports')
    for path in args.checkpoint:
        check_checkpoint(path, 'checkpoint')
    reports = [] if args.reports is None else read_reports(args.reports)
    cfg = load_config(args)
    if args.checkpoint:
        reports += measure(cfg, args.config, args.checkpoint, args.probe)
    # a shell puts epoch_10.pth before epoch_2.pth
    reports.sort(key=lambda report: report['iter'])
    write({'config': args.config, 'probe': args.probe, 'reports': reports}, Path(args.work_dir))


def read_reports(path: str) -> list[dict[str, Any]]:
    """Read the reports of a ``gradients.json``.

    Raises:
        LaunchError: if the file is missing or another one.
    """
    try:
        reports = json.loads(Path(path).read_text())['reports']
        if reports[0]['calls'] and 'iter' in reports[0]:
            return reports
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        pass
    raise LaunchError(f'--reports {path!r} must be a gradients.json of GradientReportHook')


def measure(
    cfg: Config, config: str, checkpoints: list[str], probe: float | None
) -> list[dict[str, Any]]:
    """Measure the gradients at each checkpoint, all on the same batch.

    Args:
        cfg (Config): The config.
        config (str): Its path, for messages.
        checkpoints (list[str]): Paths of the checkpoints.
        probe (float, optional): Step of the probe.

    Returns:
        list[dict]: A report for each checkpoint.

    Raises:
        LaunchError: if the model has no branch, a checkpoint does not fit, or the config has no training.
    """
    for key in ('train_dataloader', 'train_cfg'):
        if not cfg.get(key):
            raise LaunchError(
                f'config {config!r} has no {key}: gradients are those of a training step'
            )
    model: Any = build_model(cfg)
    if next(compensated_layers(model), None) is None:
        raise LaunchError(f'config {config!r}: {NO_BRANCH}')
    for path in checkpoints:  # all, before the first takes its time
        read_checked(model, path)
    check_data(cfg, ('train',))
    model = revert_sync_batchnorm(model).to(get_device())
    set_random_seed(0)
    loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    batch = next(iter(loader))
    last = cfg.train_cfg.get('max_iters') or cfg.train_cfg.max_epochs * len(loader)
    reports = []
    for path in track(checkpoints, 'checkpoints'):
        iteration = load_checked(model, path).get('meta', {}).get('iter', 0)
        set_layers(cfg, model, batch, min(iteration, last - 1), last)
        rows = measure_gradients(model, batch, probe)
        reports.append({'checkpoint': path, 'iter': iteration, 'calls': rows})
    return reports


def set_layers(cfg: Config, model: Any, batch: Any, iteration: int, last: int) -> None:
    """Set a model to training mode, and its layers as the hooks of the config do before an iteration.

    Args:
        cfg (Config): The config.
        model (BaseModel): The model.
        batch (Any): Batch on which a hook counts the layers.
        iteration (int): Number of the iteration.
        last (int): Number of iterations of the training.
    """
    model.train()
    runner: Any = SimpleNamespace(
        cfg=cfg,
        model=model,
        hooks=[],
        iter=iteration,
        max_iters=last,
        train_dataloader=[batch],
        optim_wrapper=SimpleNamespace(optim_context=nullcontext),
    )
    for settings in [*cfg.get('default_hooks', {}).values(), *(cfg.get('custom_hooks') or [])]:
        kind = settings and settings['type']
        if (HOOKS.get(kind) if isinstance(kind, str) else kind) in SETTERS:
            hook = HOOKS.build(settings)
            hook.before_train(runner)
            hook.before_train_iter(runner, 0, batch)


def write(report: dict[str, Any], folder: Path) -> None:
    """Print the table of the last report, and write all of them.

    Args:
        report (dict): Content of gradients.json.
        folder (Path): Folder of the files.
    """
    last = report['reports'][-1]
    table = Table(title=f'iteration {last["iter"]}')
    table.add_column('layer, call', no_wrap=True)
    shown = ('lambda', 'cos', 'weight_ratio', 'clipped', 'grad_norm', 'growth', 'noise')
    probed = [key for key in ('g_b', 'g_a') if any('probe' in row for row in last['calls'])]
    titles = [key.replace('_', '\n') for key in shown]
    if probed:
        probed.append('best_eta')
    for column in (*titles, *(PROBED[key] for key in probed)):
        table.add_column(column, justify='right')
    for row in last['calls']:
        values = [report_value(row, key) for key in (*shown, *probed)]
        cells = ['' if math.isnan(value) else f'{value:.3g}' for value in values]
        table.add_row(f'{row["layer"]} {row["call"] or ""}'.strip(), *cells)
    wide_console().print(table)
    path = folder / 'gradients.json'
    write_json(path, report)
    print(f'{path}\n{plot_gradients(report["reports"], folder / "gradients.png")}')


if __name__ == '__main__':
    run(main, 'nothing was written')
