"""Train a detector or classifier from a config file of MMDetection or MMPretrain.

python tools/train.py configs/demo/surge_fcos-1bit_r18-light_10e_digits.py
"""

from mmengine.config import Config

import surge_mm  # noqa: F401  must be imported before the hosts
from surge_mm.analysis.binary_parts import describe_binary_parts
from surge_mm.checkpoint.checked import read_checked
from surge_mm.checkpoint.safe_loading import check_is_resumable
from surge_mm.launch.cli import Parser, add_common_arguments, run
from surge_mm.launch.config import dropped_hooks, load_config
from surge_mm.launch.distributed import check_batches, prepare_ranks
from surge_mm.launch.mixed_precision import use_mixed_precision
from surge_mm.launch.resume import check_checkpoint, choose_start, locked_work_dir
from surge_mm.launch.runner import begin, build_runner, check_data
from surge_mm.utils.errors import LaunchError
from surge_mm.utils.logging import warn
from surge_mm.utils.modules import unwrap_model


def main() -> None:
    parser = Parser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('config', help='path of a config file')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='continue from CHECKPOINT, or from the last one in the work dir',
    )
    parser.add_argument(
        '--amp',
        action='store_true',
        help='train in mixed precision (needs a GPU, or a CPU with AMX or AVX512_BF16)',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by the batch size over auto_scale_lr.base_batch_size',
    )
    add_common_arguments(parser)
    args = parser.parse_args()

    cfg = load_config(args)
    if args.amp:
        use_mixed_precision(cfg)
    if args.auto_scale_lr:
        if not (cfg.get('auto_scale_lr') or {}).get('base_batch_size'):
            raise LaunchError(
                '--auto-scale-lr needs auto_scale_lr.base_batch_size in the config: the batch size of all processes '
                'together for which the learning rate was chosen'
            )
        cfg.auto_scale_lr.enable = True
    with locked_work_dir(cfg):
        train(cfg, args.resume)


def train(cfg: Config, resume: str | None) -> None:
    """Train by a config.

    Args:
        cfg (Config): config of a run, changed in place.
        resume (str, optional): as for :func:`surge_mm.launch.resume.choose_start`.
    """
    lines = choose_start(cfg, resume)
    check_checkpoint(cfg.get('load_from'), 'load_from')
    lines += check_data(cfg, ('train', 'val'))
    prepare_ranks(cfg)
    runner = build_runner(cfg)
    if dropped := dropped_hooks(cfg):
        warn(
            f'hooks of the base config that do not run: {", ".join(dropped)}. custom_hooks in a config replaces the '
            'whole list of its base. Add hooks by default_hooks, or by custom_hooks = [*_base_.custom_hooks, ...]'
        )
    if cfg.get('load_from'):
        checkpoint = read_checked(runner.model, cfg.load_from, whole=cfg.resume)
        if cfg.resume:
            check_is_resumable(checkpoint, cfg.load_from)
        del checkpoint
    lines += describe_binary_parts(unwrap_model(runner.model))
    with begin(runner, lines):
        check_batches(runner)
        runner.train()


if __name__ == '__main__':
    run(main)
