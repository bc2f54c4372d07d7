"""Command-line options of the tools, and their exit status and messages."""

from __future__ import annotations

import argparse
import atexit
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NoReturn

import torch
from mmengine.config import DictAction

from surge_mm.launch.distributed import lost_a_rank
from surge_mm.utils.errors import DatasetError, LaunchError, UsageError
from surge_mm.utils.suggestions import did_you_mean

PATIENCE = 5
"""Seconds from Ctrl-C to the end of a tool by the signal, if no exception has ended it."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that suggests the option that a misspelt one may mean."""

    def error(self, message: str) -> NoReturn:
        """Print the message with a suggestion and exit.

        Args:
            message (str): message of argparse.
        """
        before, _, rest = message.partition('unrecognized arguments: ')
        options = [word.partition('=')[0] for word in rest.split() if word.startswith('--')]
        if options and not before:
            known = [
                option
                for option, action in self._option_string_actions.items()
                if option.startswith('--') and action.help != argparse.SUPPRESS
            ]
            message += did_you_mean(options[0], known)
        super().error(message)


def setting(text: str) -> str:
    """Check an argument of the form ``KEY=VALUE``, for use as the ``type`` of an option."""
    key, sign, _ = text.partition('=')
    if not key or not sign:
        raise argparse.ArgumentTypeError(f'{text!r} must be KEY=VALUE')
    return text


_UNREADABLE = (ValueError, AssertionError, IndexError, RecursionError)
"""What MMEngine's DictAction raises for values that it cannot read."""


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):  # a call, such as range(3, 7)
        return 'a value is no number, string, list or tuple. Write it in a config'
    return str(error)


def parse_settings(texts: Sequence[str], option: str) -> dict[str, Any]:
    """Return the value of each key of settings ``KEY=VALUE``.

    Args:
        texts (Sequence[str]): the settings.
        option (str): where they are from, for the message.

    Raises:
        LaunchError: if one is not of this form.
    """
    try:
        pairs = [setting(text).partition('=') for text in texts]
        return {key: DictAction._parse_iterable(text) for key, _, text in pairs}
    except (argparse.ArgumentTypeError, *_UNREADABLE) as error:
        raise LaunchError(f'{option}: {_reason(error)}') from error


class _Settings(DictAction):
    """MMEngine's action for ``KEY=VALUE``, with its errors reported as those of the option."""

    def __call__(
        self, parser: Any, namespace: Any, values: Any, option_string: str | None = None
    ) -> None:
        try:
            super().__call__(parser, namespace, values, option_string)
        except _UNREADABLE as error:
            raise argparse.ArgumentError(self, f'{" ".join(values)}: {_reason(error)}') from error


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of all tools that build a Runner: ``--work-dir``, ``--cfg-options``, ``--launcher``."""
    parser.add_argument(
        '--work-dir', help='folder for logs and checkpoints; default ./work_dirs/NAME_OF_CONFIG'
    )
    add_settings(parser)
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher; dist_train.sh and slurm_train.sh set it',
    )
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the option of all tools that read a config: ``--cfg-options``."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        type=setting,
        action=_Settings,
        metavar='KEY=VALUE',
        help='settings that replace those of the config, e.g. model.backbone.init_cfg=None',
    )
    parser.set_defaults(launcher='none', work_dir=None)


def add_settings_of_train(parser: argparse.ArgumentParser) -> None:
    """Add the option of tools that call ``tools/train.py``: ``--cfg-options``, as text."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        type=setting,
        default=[],
        metavar='KEY=VALUE',
        help='passed to tools/train.py',
    )


def add_full_precision(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of tools that start from a trained full-precision model: ``config`` and ``checkpoint``."""
    parser.add_argument(
        'config',
        help='config of the full-precision model: a path, or a name such as mmdet::retinanet/NAME.py',
    )
    parser.add_argument('checkpoint', help='path of its trained checkpoint')


def add_allow(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--allow`` of tools that load a packed file."""
    parser.add_argument(
        '--allow',
        nargs='+',
        type=_imported,
        default=[],
        metavar='CLASS',
        help='classes that the packed file may name beyond the allow-list, as tools/export.py printed them, such as '
        'my_package.necks.MyNeck; their modules are imported',
    )


def _imported(name: str) -> str:
    """Import the module of a class, for use as the ``type`` of an option."""
    module, _, own = name.rpartition('.')
    try:
        getattr(import_module(module), own)
    except (ImportError, AttributeError, ValueError) as error:
        raise argparse.ArgumentTypeError(f'{name!r}: {error}') from error
    return name


def add_shape(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--shape`` of tools that run a model on one image."""
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        metavar=('HEIGHT', 'WIDTH'),
        help="size of the image in pixels; default: that of the config's test pipeline",
    )


def check_least(args: argparse.Namespace, least: int, *names: str) -> None:
    """Check that numbers are large enough.

    Args:
        args (argparse.Namespace): Arguments of the tool.
        least (int): The smallest number that is allowed.
        *names (str): Names of the arguments, each a number, several, or None, which is allowed.

    Raises:
        LaunchError: if one is smaller.
    """
    for name in names:
        given = getattr(args, name)
        values = given if isinstance(given, (list, tuple)) else [] if given is None else [given]
        if any(value < least for value in values):
            raise LaunchError(f'--{name} {" ".join(map(str, values))} must be at least {least}')


def check_packed_alone(args: argparse.Namespace, names: Sequence[str]) -> None:
    """Check that a packed model, given as ``args.config``, has none of the arguments that are for a config.

    Args:
        args (argparse.Namespace): Arguments of the tool. One that is called ``real`` must be float32.
        names (Sequence[str]): Names of the arguments that are for a config.

    Raises:
        LaunchError: if one of them is given.
    """
    if getattr(args, 'real', 'float32') != 'float32':
        raise LaunchError(f'--real {args.real} is for a config, not for a packed model')
    for name in names:
        if getattr(args, name):
            raise LaunchError(
                f'{args.config!r} is a packed model with a config and weights of its own, so it takes no {name}'
            )


def run(
    main: Callable[[], None],
    advice: str = 'run the same command with --resume to continue from the last checkpoint, or from the start if '
    'there is none yet',
) -> None:
    """Run a tool and turn expected errors into one line on stderr.

    The exit status is 1 after a :class:`UsageError` and after the loss of another rank, 130 after Ctrl-C. SIGTERM
    ends the process with that signal. So does Ctrl-C if the tool is not done with it after :data:`PATIENCE` seconds, as
    in code that catches every exception, and a second Ctrl-C. ``advice`` is printed after Ctrl-C, SIGTERM and the loss
    of a rank. Of several ranks, one whose tool is done ends its process: the function does not return.

    Args:
        main (Callable): function of the tool, without arguments.
        advice (str): what to do next after an interruption.
    """

    def terminate(number: int, _: Any) -> None:
        number, cause = (
            (number, 'ended by SIGTERM')
            if number == signal.SIGTERM
            else (signal.SIGINT, 'interrupted')
        )
        os.write(2, f'\n{cause}; {advice}\n'.encode())
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def interrupt(number: int, _: Any) -> None:
        signal.signal(number, terminate)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)
        raise KeyboardInterrupt

    if isinstance(sys.stdout, io.TextIOWrapper):  # for names of files that the terminal cannot show
        sys.stdout.reconfigure(errors='backslashreplace')
    signal.signal(signal.SIGTERM, terminate)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # a job in the background of a script
        signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGALRM, terminate)
    # A forked worker that receives SIGTERM just before it waits for a lock would never run a Python handler, and
    # joining it, as VOC evaluation does, would wait forever.
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    try:
        main()
    except UsageError as error:
        sys.exit(f'error: {_last_error(str(error))}')
    except RuntimeError as error:
        if not lost_a_rank(error):
            raise
        sys.exit(
            f'error: rank {os.environ.get("RANK", 0)} lost touch with another rank, which was killed, failed or did '
            'not answer in time (env_cfg.dist_cfg.timeout seconds). The error of that rank, if any, is in its own '
            f'output; {advice} (PyTorch: {str(error).partition(chr(10))[0]})'
        )
    except KeyboardInterrupt:
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(f'\ninterrupted; {advice}', file=sys.stderr)
        sys.exit(130)
    else:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
            _end_rank()
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def _end_rank() -> NoReturn:
    """End the process with status 0, without shutting down the interpreter.

    DistributedDataParallel keeps gloo's threads alive after ``destroy_process_group``. One of them that frees a tensor
    while the interpreter shuts down aborts the process: "terminate called without an active exception".
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _last_error(message: str) -> str:
    """Return the message of an error in a worker of a data loader, which PyTorch gives a whole traceback."""
    name = f'{DatasetError.__module__}.{DatasetError.__qualname__}: '
    return message.rpartition(name)[2].strip() if message.startswith('Caught ') else message
