"""Evaluate a checkpoint with the test set and the metrics of its config file.

python tools/test.py configs/demo/fcos_r18-light_10e_digits_surge.py work_dirs/demo/epoch_10.pth
"""

from pathlib import Path

import surge_mm  # noqa: F401  prepares the stack before the hosts are imported
from surge_mm.launch import (
    begin,
    build_runner,
    check_data,
    load_config,
    prepare_ranks,
    run,
)
from surge_mm.options import Parser, add_common_arguments
from surge_mm.start import check_checkpoint, check_fits


def main() -> None:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='path of a config file')
    parser.add_argument('checkpoint', help='path or address of a checkpoint')
    add_common_arguments(parser)
    args = parser.parse_args()

    cfg = load_config(args)
    if (
        args.work_dir is None
    ):  # the config that MMEngine writes there must not replace that of the training
        cfg.work_dir = str(Path(cfg.work_dir) / 'test')
    check_checkpoint(args.checkpoint, 'checkpoint')
    cfg.load_from = args.checkpoint
    check_data(cfg, ('test',))
    prepare_ranks(cfg)
    runner = build_runner(cfg)
    check_fits(runner.model, args.checkpoint)
    with begin(runner):
        runner.test()


if __name__ == '__main__':
    run(main, 'nothing was written')
