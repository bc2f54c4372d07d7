"""The option ``--json`` of the tools, and other files that they write beside what they print."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from surge_mm.utils.errors import UsageError
from surge_mm.utils.files import check_new_file


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
        UsageError: by :func:`.check_new_file`, or if it is an input.
    """
    path = getattr(args, name)
    if path is None or (
        Path(path).exists() and not Path(path).is_file() and not Path(path).is_dir()
    ):
        return
    check_new_file(path, [ending], args.overwrite, f'--{name}')
    if Path(path).resolve() in {Path(other).resolve() for other in inputs}:
        raise UsageError(f'--{name} {path!r} is an input, and would be replaced: name another file')


def add_report_folder(parser: argparse.ArgumentParser) -> None:
    """Add the options ``--work-dir`` and ``--overwrite``; :func:`check_report_folder` checks them.

    Args:
        parser (argparse.ArgumentParser): Parser of the tool.
    """
    parser.add_argument('--work-dir', required=True, help='folder for the report')
    parser.add_argument('--overwrite', action='store_true', help='replace an earlier report there')


def check_report_folder(args: argparse.Namespace, name: str) -> None:
    """Check that a report replaces no earlier one, before time is spent.

    Args:
        args (argparse.Namespace): Arguments of the tool, with ``work_dir`` and ``overwrite``.
        name (str): File of the report, such as ``'gradients.json'``.

    Raises:
        UsageError: if the file exists, without ``--overwrite``.
    """
    if (Path(args.work_dir) / name).exists() and not args.overwrite:
        raise UsageError(
            f'--work-dir {args.work_dir!r} has {name} already: use another folder, or add --overwrite to replace it'
        )
