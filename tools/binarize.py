"""Write a config that makes a trained full-precision model binary, with the trained model as start and as teacher.

python tools/binarize.py my_config.py work_dirs/my_config/epoch_12.pth --work-dir work_dirs/binary
python tools/train.py work_dirs/binary/ste_my_config.py

The config inherits from my_config.py and changes a few lines, which are yours to edit. The tool prints for each layer
whether it becomes binary and why, and the operations and the size before and after. docs/recipe.md has the whole path.
"""

import argparse
import contextlib
import sys
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmpretrain.models import ImageClassifier
from rich.table import Table
from torch import nn

import surge_mm  # noqa: F401  prepares the stack before the hosts are imported
from surge_mm.analysis.complexity import ModelComplexity, model_complexity
from surge_mm.analysis.tables import layer_table, wide_console
from surge_mm.checkpoint.checked import read_checked
from surge_mm.composition.binary_config import (
    binary_config,
    can_have_shortcuts,
    config_text,
    merged,
    require_full_precision,
)
from surge_mm.composition.config_files import base_configs
from surge_mm.datasets.evaluation_set import image_size
from surge_mm.launch.cli import Parser, add_full_precision, add_shape, check_least, run
from surge_mm.launch.config import load_config, with_names
from surge_mm.launch.resume import check_checkpoint
from surge_mm.launch.runner import build_model
from surge_mm.models.classifiers.distilled_classifier import require_classifier
from surge_mm.models.detectors.distilled_detector import require_detector
from surge_mm.utils.atomic_write import write_atomically
from surge_mm.utils.errors import LaunchError, UsageError
from surge_mm.utils.hosts import find_config
from surge_mm.utils.suggestions import did_you_mean

METHODS = {name: path for name, path in base_configs('methods').items() if name != 'fp'}
HEADER = '# Written by tools/binarize.py: {base} in 1 bit, by the method {method}.\n'


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_full_precision(parser)
    parser.add_argument(
        '--work-dir', required=True, help='folder for the config, METHOD_NAME_OF_CONFIG.py'
    )
    parser.add_argument(
        '--method',
        default='ste',
        metavar='NAME',
        help=f'settings of the binary layers; default ste, without an auxiliary branch: {", ".join(METHODS)}',
    )
    parser.add_argument(
        '--keep',
        nargs='+',
        default=[],
        metavar='NAME',
        help="layers to keep in full precision, such as 'neck.*'. A binary layer of a backbone of this package is kept "
        "by a pattern that begins with backbone, such as 'backbone.layer1.*'",
    )
    add_shape(parser)
    parser.add_argument('--overwrite', action='store_true', help='replace the config')
    parser.set_defaults(cfg_options=None, launcher='none')
    args = parser.parse_args()

    if args.method not in METHODS:
        raise LaunchError(
            f'--method {args.method!r} does not exist or has no binary layers'
            f'{did_you_mean(args.method, METHODS)}; choose from {", ".join(METHODS)}'
        )
    check_least(args, 1, 'shape')
    args.config, base = find_config(args.config), args.config
    if '::' not in base:
        base = str(Path(base).resolve())
    out = Path(args.work_dir).resolve() / f'{args.method}_{Path(args.config).stem}.py'
    if out.exists() and not args.overwrite:
        raise LaunchError(
            f'{str(out)!r} exists already: use another --work-dir, or add --overwrite to replace it'
        )
    if base == str(out):
        raise LaunchError(f'{base!r} is the config itself: use another --work-dir')
    check_checkpoint(args.checkpoint, 'checkpoint')
    cfg = load_config(args)
    new_style = not isinstance(cfg.model.type, str)
    cfg = with_names(cfg) if new_style else cfg
    height, width = args.shape or image_size(cfg)
    before = build_model(cfg)
    require_full_precision(before, args.config)
    read_checked(before, args.checkpoint)
    content = binary_keys(cfg, base, before, args)
    content['work_dir'] = str(out.with_suffix(''))
    with contextlib.redirect_stdout(sys.stderr):
        after = build_model(merged(cfg, content))
        counts = [model_complexity(model, height, width) for model in (before, after)]
    show(counts[0], counts[1], height, width)
    # MMEngine lets no file with names inherit from one of the new style, so that one is written as a whole
    keys = merged(cfg, content).to_dict() if new_style else content
    text = HEADER.format(base=Path(base).name, method=args.method) + config_text(keys)
    write_atomically(out, text.encode())
    print(f'{out}\npython tools/train.py {Path(args.work_dir) / out.name}')


def binary_keys(
    cfg: Config, base: str, model: nn.Module, args: argparse.Namespace
) -> dict[str, Any]:
    """Return the keys of the config to write.

    Args:
        cfg (Config): Content of the base config.
        base (str): Its absolute path, or its name with the prefix of a host.
        model (nn.Module): Its model.
        args (argparse.Namespace): Arguments of the tool.
    """
    method = Config.fromfile(METHODS[args.method])
    checkpoint = args.checkpoint
    if '://' not in checkpoint:
        checkpoint = str(Path(checkpoint).resolve())
    teacher: str | None = str(Path(args.config).resolve())
    require = require_classifier if isinstance(model, ImageClassifier) else require_detector
    try:
        require('the model', model)
    except UsageError as error:
        print(f'the config has no teacher: {error}')
        teacher = None
    content = binary_config(cfg, base, method, checkpoint, teacher, args.keep)
    if 'shortcuts' not in cfg.model and can_have_shortcuts(build_model(merged(cfg, content))):
        content['model']['shortcuts'] = True
    if changed := content.get('optim_wrapper'):
        rate = cfg.optim_wrapper.optimizer.lr
        print(f'learning rate: {changed["optimizer"]["lr"]} in place of {rate}')
    return content


def show(before: ModelComplexity, after: ModelComplexity, height: int, width: int) -> None:
    """Print the layers of the binary model, and operations and size of both.

    Args:
        before (ModelComplexity): That of the full-precision model.
        after (ModelComplexity): That of the binary model.
        height (int): Height of the image in pixels.
        width (int): Width of the image in pixels.
    """
    console = wide_console()
    console.print(layer_table(after, f'one image of {height} x {width}'))
    binary = sum(layer.binary for layer in after.layers)
    table = Table(title=f'{binary} of {len(after.layers)} layers become binary')
    for column in ('', 'full precision', 'binary', 'times less'):
        table.add_column(column, justify='right')
    for name, one, other in (
        ('OPs in M', before.ops / 1e6, after.ops / 1e6),
        ('size in MB', before.size.total / 8e6, after.size.total / 8e6),
    ):
        table.add_row(name, f'{one:,.2f}', f'{other:,.2f}', f'{one / other:.1f}')
    console.print(table)


if __name__ == '__main__':
    run(main, 'nothing was written')
