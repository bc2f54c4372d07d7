"""Check the data of a config and decode every image.

python tools/check_data.py configs/demo/surge_fcos-1bit_r18-light_10e_digits.py
python tools/check_data.py CONFIG --splits train > unusable.txt

Prints counts and warnings on stderr, and one line for each unusable image on stdout. The exit status is 1 if anything
is unusable. tools/train.py and tools/test.py check files and annotations themselves, but decode no image.
"""

import sys

import surge_mm  # noqa: F401  must be imported before the hosts
from surge_mm.launch.cli import Parser, add_settings, run
from surge_mm.launch.config import load_config
from surge_mm.preflight.datasets import Inspection
from surge_mm.preflight.image_consistency import check_images
from surge_mm.utils.errors import DatasetError

SPLITS = ('train', 'val', 'test')


def main() -> None:
    parser = Parser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('config', help='path of a config file')
    parser.add_argument(
        '--splits', nargs='+', choices=SPLITS, default=SPLITS, help='data to check; default all'
    )
    add_settings(parser)
    args = parser.parse_args()

    cfg = load_config(args)
    found = Inspection(cfg, args.splits)
    broken: dict[str, str] = {}
    for key, config in found.datasets:
        lines, defects = check_images(key, config, cfg.default_scope)
        found.lines += lines
        broken |= defects
    for line in found.lines:
        print(f'data: {line}', file=sys.stderr)
    for path, defect in sorted(broken.items()):
        print(f'{path} {defect}')
    if broken:
        found.problems.append(f'{len(broken):,} images cannot be used')
    if found.problems:
        raise DatasetError('\n'.join(found.problems))


if __name__ == '__main__':
    run(main, 'nothing was written')
