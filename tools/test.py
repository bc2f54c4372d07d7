"""Evaluate a checkpoint, or a packed model, with the test set and the metrics of a config file.

python tools/test.py configs/demo/surge_fcos-1bit_r18-light_10e_digits.py work_dirs/demo/epoch_10.pth
python tools/test.py configs/demo/surge_fcos-1bit_r18-light_10e_digits.py digits.safetensors
python tools/test.py my_config.py work_dirs/my_config/epoch_12.pth --tta --out predictions.pkl --show-dir pictures
"""

from pathlib import Path

from mmengine.config import Config

import surge_mm  # noqa: F401  must be imported before the hosts
from surge_mm.checkpoint.checked import read_checked
from surge_mm.datasets.evaluation_set import dataset_meta
from surge_mm.deploy.packed_file.config import differences, stored_config
from surge_mm.deploy.packed_file.config_policy import classes_to_allow
from surge_mm.deploy.packed_file.format import read_packed
from surge_mm.deploy.packed_file.save_load import SUFFIX
from surge_mm.launch.cli import Parser, add_common_arguments, run
from surge_mm.launch.config import load_config
from surge_mm.launch.distributed import prepare_ranks
from surge_mm.launch.evaluation import (
    PICKLES,
    augment_test,
    check_merged,
    dump_predictions,
    show_in,
)
from surge_mm.launch.resume import check_checkpoint
from surge_mm.launch.runner import begin, build_runner, check_data
from surge_mm.utils.errors import LaunchError, UsageError
from surge_mm.utils.files import check_new_file


def main() -> None:
    parser = Parser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('config', help='path of a config file')
    parser.add_argument(
        'checkpoint',
        help=f'path or address of a checkpoint, or path of a packed model, *{SUFFIX}',
    )
    parser.add_argument('--out', metavar='FILE', help='also write the predictions, *.pkl')
    parser.add_argument('--show-dir', metavar='DIR', help='draw the predictions into this folder')
    parser.add_argument(
        '--tta',
        action='store_true',
        help='average over augmented images: by tta_model and tta_pipeline of the config, or over each image and its '
        'mirror image',
    )
    add_common_arguments(parser)
    args = parser.parse_args()

    if args.out:
        check_new_file(args.out, PICKLES, overwrite=True, option='--out')
    cfg = load_config(args)
    if args.work_dir is None:
        # MMEngine writes the config there, which must not replace that of the training
        cfg.work_dir = str(Path(cfg.work_dir) / 'test')
    cfg.resume = False  # MMEngine would build the training to resume it
    check_checkpoint(args.checkpoint, 'checkpoint')
    packed = args.checkpoint.endswith(SUFFIX)
    if packed:
        take_packed(cfg, args.checkpoint)
    else:
        cfg.load_from = args.checkpoint
    lines = check_data(cfg, ('test',))
    if args.show_dir:
        show_in(cfg, args.show_dir)
    if args.tta:
        augment_test(cfg)
    prepare_ranks(cfg)
    runner = build_runner(cfg)
    check_merged(runner.model)
    if not packed:
        read_checked(runner.model, args.checkpoint)
    with begin(runner, lines):
        if args.out:
            dump_predictions(runner, args.out)
        runner.test()


def take_packed(cfg: Config, path: str) -> None:
    """Replace the model of a config by the packed model of a file; print where they differ.

    Args:
        cfg (Config): config of a run, changed in place.
        path (str): the packed file.

    Raises:
        LaunchError: if the packed model cannot be evaluated with this config.
        CheckpointError: if the file is not a packed file, or damaged.
    """
    if cfg.launcher != 'none':
        raise LaunchError(
            f'--launcher {cfg.launcher}: a packed model is evaluated in a single process: '
            f'python tools/test.py CONFIG {path}'
        )
    file = read_packed(path)
    theirs, ours = file.config['dataset_meta'].get('classes'), dataset_meta(cfg).get('classes')
    if theirs and ours and list(theirs) != list(ours):
        raise LaunchError(
            f'packed model {path!r} has the classes {list(theirs)!r:.200}, but the test set has '
            f'{list(ours)!r:.200}. Use the config that it was exported with'
        )
    try:
        stored = stored_config(cfg, {})
        keys = list(differences(stored['model'], file.config['model'], 'model'))
        allow = classes_to_allow(stored)  # the config is trusted, and so are its own classes
    except UsageError:  # a model that cannot be stored differs
        keys, allow = ['model'], []
    if keys:
        print(
            f'the model of {path!r} is evaluated, with the settings of its export. The config, of which only data and '
            f'metrics are used, differs in {", ".join(keys[:3])}'
            + (f' and {len(keys) - 3} more' if len(keys) > 3 else '')
        )
    cfg.model = {'type': 'surge_mm.load_packed', 'path': path, 'allow': allow}
    cfg.load_from = None
    cfg.pop('data_preprocessor', None)


if __name__ == '__main__':
    run(main, 'nothing was written')
