"""The options of the tools, and what their parser says of a misspelt one."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from mmengine.config import DictAction

from surge_mm.utils.argument_checks import did_you_mean


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that says which option a misspelt one may mean."""

    def error(self, message: str) -> NoReturn:
        said, _, rest = message.partition('unrecognized arguments: ')
        options = [word.partition('=')[0] for word in rest.split() if word.startswith('--')]
        if options and not said:
            known = [
                one
                for one, action in self._option_string_actions.items()
                if one.startswith('--') and action.help != argparse.SUPPRESS
            ]
            message += did_you_mean(options[0], known)
        super().error(message)


def setting(text: str) -> str:
    """The ``type`` of options that take ``KEY=VALUE``."""
    key, sign, _ = text.partition('=')
    if not key or not sign:
        raise argparse.ArgumentTypeError(f'{text!r} must be KEY=VALUE')
    return text


class _Settings(DictAction):
    """MMEngine's reading of ``KEY=VALUE``, whose errors are those of the option."""

    def __call__(
        self, parser: Any, namespace: Any, values: Any, option_string: str | None = None
    ) -> None:
        try:
            super().__call__(parser, namespace, values, option_string)
        except (ValueError, AssertionError, IndexError) as error:
            raise argparse.ArgumentError(self, f'{" ".join(values)}: {error}') from error


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of every tool that builds a Runner."""
    parser.add_argument(
        '--work-dir', help='folder for logs and checkpoints; default ./work_dirs/NAME_OF_CONFIG'
    )
    add_settings(parser)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='who started the processes; dist_train.sh and slurm_train.sh set it',
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """The argument of every tool that reads a config."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        type=setting,
        action=_Settings,
        metavar='KEY=VALUE',
        help='settings that replace those of the config, e.g. model.backbone.init_cfg=None',
    )
    parser.set_defaults(launcher='none', work_dir=None)
