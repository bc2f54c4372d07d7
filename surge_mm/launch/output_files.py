"""The option ``--json`` of the tools, and other files that they write beside what they print."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from surge_mm.utils.errors import LaunchError


def add_json(parser: argparse.ArgumentParser, content: str = 'the figures') -> None:
    """Add the options ``--json`` and ``--overwrite``; :func:`check_output` checks them.

    Args:
        parser (argparse.ArgumentParser): Parser of the tool.
        content (str): What is written to the file. Defaults to ``'the figures'``.
    """
    parser.add_argument(
        '--json', metavar='FILE', help=f'also write {content} to this file, which ends in .json'
    )
    parser.add_argument('--overwrite', action='store_true', help='replace files that exist already')


def check_output(
    args: argparse.Namespace, name: str, ending: str, inputs: Iterable[str] = ()
) -> None:
    """Check the path of a file to write, before time is spent.

    A pipe or a device, such as ``/dev/stdout``, may have any name.

    Args:
        args (argparse.Namespace): Arguments of the tool, with ``overwrite``.
        name (str): Name of the argument; its value may be None.
        ending (str): That of the file, such as ``'.json'``.
        inputs (Iterable[str]): Paths that the tool reads.

    Raises:
        LaunchError: if it is a folder, has another ending, is an input, or exists already and ``args.overwrite`` is not
            set.
    """
    if getattr(args, name) is None:
        return
    given, path = f'--{name} {getattr(args, name)!r}', Path(getattr(args, name))
    if path.is_dir():
        raise LaunchError(f'{given} is a folder; name a file')
    if path.exists() and not path.is_file():
        return
    if path.suffix.lower() != ending:
        raise LaunchError(f'{given} must end in {ending}: write --{name} FILE{ending}')
    if path.resolve() in {Path(other).resolve() for other in inputs}:
        raise LaunchError(f'{given} is an input, and would be replaced: name another file')
    if path.exists() and not args.overwrite:
        raise LaunchError(f'{given} exists already: name another file, or add --overwrite')
