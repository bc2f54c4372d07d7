"""Measure how much each layer, or each block, of a trained detector costs if it alone becomes binary.

python tools/sensitivity.py my_config.py work_dirs/my_config/epoch_12.pth --work-dir work_dirs/sensitivity

The layers are those that tools/binarize.py makes binary. After the scale of the layer and the statistics of the batch
norms were estimated on training images, the model is evaluated on the validation set. Nothing is trained. The tool
prints a table, the costliest layer first, and writes sensitivity.json and sensitivity.png.
"""

import argparse
from collections.abc import Collection
from itertools import chain
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.model import revert_sync_batchnorm
from mmengine.runner import Runner, set_random_seed
from rich.progress import track
from rich.table import Table
from torch.utils.data import DataLoader

import surge_mm  # noqa: F401  prepares the stack before the hosts are imported
from surge_mm.analysis.ablation import ERRORS
from surge_mm.analysis.plots import METRICS, plot_costs
from surge_mm.analysis.sensitivity import (
    Names,
    binarize_alone,
    group_by_block,
    training_loss,
)
from surge_mm.analysis.tables import wide_console
from surge_mm.checkpoint.checked import load_checked
from surge_mm.composition.binary_config import (
    STE,
    binary_config,
    binary_layers,
    merged,
    require_full_precision,
)
from surge_mm.launch.cli import Parser, add_full_precision, add_settings, check_least, run
from surge_mm.launch.config import load_config, with_names
from surge_mm.launch.output_files import add_report_folder, check_report_folder
from surge_mm.launch.resume import check_checkpoint
from surge_mm.launch.runner import build_model, check_data
from surge_mm.launch.validation_set import ValidationSet
from surge_mm.utils.atomic_write import write_json
from surge_mm.utils.errors import LaunchError
from surge_mm.utils.hosts import find_config


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_full_precision(parser)
    add_report_folder(parser)
    parser.add_argument(
        '--images',
        type=int,
        default=64,
        metavar='N',
        help='number of training images for scales and statistics; default 64',
    )
    parser.add_argument(
        '--by', choices=['layer', 'block'], default='layer', help='what becomes binary at a time'
    )
    parser.add_argument('--metric', help='name of the metric; default mAP or top-1 accuracy')
    add_settings(parser)
    args = parser.parse_args()

    check_least(args, 1, 'images')
    check_report_folder(args, 'sensitivity.json')
    check_checkpoint(args.checkpoint, 'checkpoint')
    args.config = find_config(args.config)
    cfg = load_config(args)
    for key in ('val_dataloader', 'val_evaluator', 'train_dataloader'):
        if not cfg.get(key):
            raise LaunchError(
                f'config {args.config!r} has no {key}: the cost of a layer is measured on a validation set, after '
                'calibration on training images'
            )
    model = build_model(cfg)
    require_full_precision(model, args.config)
    load_checked(model, args.checkpoint)
    cfg = with_names(cfg)
    content = binary_config(cfg, args.config, STE, args.checkpoint)
    layers = binary_layers(build_model(merged(cfg, content)))
    check_data(cfg, ('train', 'val'))
    blocks = {names[0]: [names] for names in layers}
    if args.by == 'block':
        blocks = group_by_block(model, layers)
    report = {
        'config': str(Path(args.config).resolve()),
        'checkpoint': str(Path(args.checkpoint).resolve()),
        'by': args.by,
        **measure(cfg, model, blocks, args.images, args.metric),
    }
    write(report, Path(args.work_dir))


def measure(
    cfg: Config, model: Any, blocks: dict[str, list[Names]], images: int, metric: str | None
) -> dict[str, Any]:
    """Measure the cost of each block.

    Args:
        cfg (Config): The config of the model.
        model (BaseModel): The trained full-precision model.
        blocks (dict): All names of the layers of each block.
        images (int): Number of training images for scales and statistics.
        metric (str, optional): Name of the metric. Defaults to the first known one.

    Returns:
        dict: Content of the report.
    """
    model = revert_sync_batchnorm(model).to(get_device())
    validation = ValidationSet(cfg)
    if names := validation.names_of_metrics(model):
        choose_metric(metric, names)  # before the time of an evaluation is spent
    metrics = validation.evaluate(model)
    metric = choose_metric(metric, metrics)
    batches = first_batches(model, cfg, images)
    sign = -1 if metric in ERRORS else 1
    runs: list[dict[str, Any]] = []
    for name, layers in track({'': [], **blocks}.items(), 'layers'):
        alone = binarize_alone(model, layers, batches)
        value = validation.evaluate(alone)[metric]
        runs.append(
            {
                'name': name,
                'layers': list(chain.from_iterable(layers)),
                'cost': sign * (runs[0]['metric'] - value) if runs else 0.0,
                'metric': value,
                'loss': training_loss(alone, batches),
            }
        )
    return {
        'images': number_of_samples(batches),
        'metric': metric,
        'trained': metrics[metric],
        'calibrated': {key: runs[0][key] for key in ('metric', 'loss')},
        'costs': sorted(runs[1:], key=lambda run: -run['cost']),
    }


def choose_metric(asked: str | None, metrics: Collection[str]) -> str:
    """Return the metric of the report.

    Args:
        asked (str, optional): Its name. Defaults to the first known one.
        metrics (Collection[str]): The names of the metrics of the validation set.

    Raises:
        LaunchError: if the validation set has no such metric.
    """
    found = [name for name in ([asked] if asked else METRICS) if name in metrics]
    given = f'the evaluators of the config give {", ".join(metrics)}'
    if not found and asked:
        raise LaunchError(f'--metric {asked!r}: {given}. Choose one of them')
    if not found:
        raise LaunchError(f'{given}, of which none is the default: add --metric with one of them')
    return found[0]


def first_batches(model: Any, cfg: Config, images: int) -> list[dict[str, Any]]:
    """Return the first training batches, preprocessed, the same at each call.

    Args:
        model (BaseModel): The model.
        cfg (Config): Its config.
        images (int): Number of images that the batches have at least, if there are as many.
    """
    set_random_seed(0)
    loader: DataLoader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    batches: list[dict[str, Any]] = []
    for batch in loader:
        batches.append(model.data_preprocessor(batch, True))
        if number_of_samples(batches) >= images:
            break
    return batches


def number_of_samples(batches: list[dict[str, Any]]) -> int:
    return sum(len(batch['data_samples']) for batch in batches)


def write(report: dict[str, Any], folder: Path) -> None:
    """Print the table and write the report.

    Args:
        report (dict): Content of sensitivity.json.
        folder (Path): Folder of the files.
    """
    metric, calibrated, costs = report['metric'], report['calibrated'], report['costs']
    print(
        f'{metric}: {report["trained"]:.4f} as trained, {calibrated["metric"]:.4f} with statistics of '
        f'{report["images"]} images (loss {calibrated["loss"]:.4f})'
    )
    table = Table(f'{report["by"]} that alone is binary')
    for column in ('cost', metric, 'loss'):
        table.add_column(column, justify='right')
    for row in costs:
        table.add_row(row['name'], *(f'{row[key]:.4f}' for key in ('cost', 'metric', 'loss')))
    wide_console().print(table)
    path = folder / 'sensitivity.json'
    write_json(path, report)
    label = f'cost in {METRICS[metric][0] if metric in METRICS else metric}'
    names, values = [row['name'] for row in costs], [row['cost'] for row in costs]
    print(f'{path}\n{plot_costs(names, values, label, folder / "sensitivity.png")}')


if __name__ == '__main__':
    run(main, 'nothing was written')
