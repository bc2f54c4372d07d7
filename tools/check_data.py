"""Check the data of a config and decode every image.

python tools/check_data.py configs/demo/surge_fcos_r18-light_10e_digits.py
python tools/check_data.py CONFIG --splits train > unusable.txt

Prints counts and warnings on stderr, and one line for each unusable image on stdout. The exit status is 1 if anything
is unusable. tools/train.py and tools/test.py check files and annotations themselves, but decode no image.
"""

import sys

import surge_mm  # noqa: F401  must be imported before the hosts
from surge_mm.launch.cli import Parser, add_settings, print_safely, run
from surge_mm.launch.config import load_config
from surge_mm.preflight.datasets import inspect_datasets
from surge_mm.preflight.image_consistency import check_images, check_other_images
from surge_mm.utils.errors import DatasetError

SPLITS = ('train', 'val', 'test')


def main() -> None:
    parser = Parser(description=__doc__.splitlines()[0])
    parser.add_argument('config', help='path of a config file')
    parser.add_argument(
        '--splits', nargs='+', choices=SPLITS, default=SPLITS, help='data to check; default all'
    )
    add_settings(parser)
    args = parser.parse_args()

    cfg = load_config(args)
    found = inspect_datasets(cfg, args.splits)
    lines, broken = check_images(found.leaves, cfg.default_scope)
    for key, config in found.others:
        broken |= check_other_images(key, config, cfg.default_scope)
    for line in [*found.lines, *lines]:
        print_safely(f'data: {line}', sys.stderr)
    for path, defect in sorted(broken.items()):
        print_safely(f'{path} {defect}')
    if broken:
        found.problems.append(f'{len(broken):,} images cannot be used')
    if found.problems:
        raise DatasetError('\n'.join(found.problems))


if __name__ == '__main__':
    run(main, 'nothing was written')
