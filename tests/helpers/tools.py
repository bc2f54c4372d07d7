"""Run a tool in the process of the tests, which saves the seconds of its imports."""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import signal
import sys
from pathlib import Path
from subprocess import CompletedProcess

import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

TOOLS = Path(__file__).parents[2] / 'tools'


def forget_runs() -> None:
    """Let MMEngine make loggers, visualizers and the default scope anew, as in a new process.

    It would write into the files and streams of an earlier run of the same name, which ends with the second in which
    the run began, draw into the work dir of the first run of all, and warn of the scope of an earlier test.
    """
    for kind in (DefaultScope, MMLogger, MessageHub, Visualizer, *Visualizer.__subclasses__()):
        kind._instance_dict.clear()


def run_tool(name: str, *words: object, folder: Path) -> CompletedProcess[str]:
    """Run ``tools/NAME.py`` with arguments in a folder, as ``subprocess.run`` with captured output does.

    Args:
        name (str): name of the tool, without ``.py``.
        words (object): its arguments.
        folder (Path): the current folder meanwhile.

    Returns:
        CompletedProcess: exit status, stdout and stderr. Working folder, arguments, threads of PyTorch and the handlers
        of signals are restored.
    """
    arguments = [str(TOOLS / f'{name}.py'), *map(str, words)]
    before = os.getcwd(), sys.argv, torch.get_num_threads()
    handlers = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)}
    stdout, stderr = io.StringIO(), io.StringIO()
    status = 0
    forget_runs()
    os.chdir(folder)
    sys.argv = arguments
    try:
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            runpy.run_path(arguments[0], run_name='__main__')
    except SystemExit as done:
        if isinstance(done.code, str):
            stderr.write(done.code + '\n')
        status = done.code if isinstance(done.code, int) else int(done.code is not None)
    finally:
        os.chdir(before[0])
        sys.argv = before[1]
        torch.set_num_threads(before[2])
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return CompletedProcess(arguments, status, stdout.getvalue(), stderr.getvalue())
