"""Print which layers of a config's model are binary, their operations and their size.

python tools/get_ops.py configs/resnet/surge_resnet18_200e_in1k.py
python tools/get_ops.py configs/glue_mini/surge_bert-mini_1e_sst2-mini.py --length 64

OPs = FLOPs + BOPs / 64, in multiply-adds of convolutions and linear layers for one image or text.
"""

import argparse
import contextlib
import json
import logging
import sys

from mmengine.logging import MMLogger

import surge_mm  # noqa: F401  prepares the stack before the hosts are imported
from surge_mm.analysis.complexity import ModelComplexity, model_complexity
from surge_mm.analysis.forward import input_name
from surge_mm.analysis.tables import layer_table, wide_console
from surge_mm.launch.cli import Parser, add_settings, run
from surge_mm.launch.config import load_config
from surge_mm.launch.input_size import add_input_size, check_input_size, input_size
from surge_mm.launch.runner import build_model


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='path of a config file')
    add_input_size(parser)
    parser.add_argument('--json', action='store_true', help='print JSON instead of a table')
    add_settings(parser)
    args = parser.parse_args()

    check_input_size(args)
    cfg = load_config(args)
    # logs go to stderr, so that stdout holds the result alone
    for handler in MMLogger.get_current_instance().handlers:
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stdout:
            handler.setStream(sys.stderr)
    with contextlib.redirect_stdout(sys.stderr):
        model = build_model(cfg)
        size = input_size(args, model, cfg)
        complexity = model_complexity(model, *size)
    if args.json:
        shape = {'shape': size} if len(size) == 2 else {'length': size[0]}
        print(json.dumps({**shape, **complexity.as_dict()}))
    else:
        show(complexity, size)


def show(complexity: ModelComplexity, size: tuple[int, ...]) -> None:
    """Print the table and the totals."""
    console = wide_console()
    console.print(layer_table(complexity, f'one {input_name(size)}'))
    binary = sum(layer.binary for layer in complexity.layers)
    packed, whole = complexity.size.total / 8e6, complexity.size.float / 8e6
    console.print(f'{binary} of {len(complexity.layers)} layers are binary')
    console.print(
        f'OPs {complexity.ops:.4g} = FLOPs {complexity.flops:.4g} + BOPs {complexity.bops:.4g} / 64'
        + (
            f'; {complexity.other:.4g} more multiply-adds, such as those of attention'
            if complexity.other
            else ''
        )
    )
    console.print(
        f'{complexity.float_ops:.4g} OPs in full precision: {complexity.float_ops / complexity.ops:.1f} times more'
    )
    console.print(
        f'size {packed:.2f} MB, {whole:.2f} MB in full precision: {whole / packed:.1f} times smaller'
    )


if __name__ == '__main__':
    run(main, 'nothing was written')
