"""Options and exit of the tools."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from surge_mm.launch import cli
from surge_mm.launch.cli import Parser, add_common_arguments


@pytest.fixture
def parser():
    parser = Parser('tool')
    add_common_arguments(parser)
    return parser


def test_settings_are_read_as_mmengine_reads_them(parser):
    words = ['--cfg-options', 'a.b=1', 'c=[1,2]', 'd="x=y"', 'e=(0.5,None)', 'f=a=b']
    assert parser.parse_args(words).cfg_options == {
        'a.b': 1,
        'c': [1, 2],
        'd': 'x=y',
        'e': (0.5, None),
        'f': 'a=b',
    }


@pytest.mark.parametrize(
    'words, message',
    [
        (['--cfg-options', 'lr'], "argument --cfg-options: 'lr' must be KEY=VALUE"),
        (['--cfg-options', '=3'], "argument --cfg-options: '=3' must be KEY=VALUE"),
        (['--cfg-options', 'a=(1,2'], 'argument --cfg-options: a=(1,2: '),
        (['--cfg-options', 'a=range(3, 7)'], 'a value is no number, string, list or tuple'),
        (
            ['--wrok-dir', 'a'],
            "did you mean '--work-dir'? Known: --help, --work-dir, --cfg-options",
        ),
        (['--lancher=none'], "did you mean '--launcher'?"),
        (['--launcher', 'slrum'], "argument --launcher: invalid choice: 'slrum'"),
        (['extra'], 'unrecognized arguments: extra\n'),
    ],
)
def test_bad_options_are_refused_by_name(words, message, parser, capsys):
    with pytest.raises(SystemExit):
        parser.parse_args(words)
    assert message in capsys.readouterr().err


def test_workers_of_a_tool_are_ended_by_sigterm_itself(capfd):
    """A handler in Python would not run in a worker that begins to wait for a lock as the signal comes."""

    def say(queue):
        queue.put(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)

    def main():
        context = multiprocessing.get_context('fork')
        queue = context.SimpleQueue()
        context.Process(target=say, args=(queue,)).start()
        print(queue.get(), callable(signal.getsignal(signal.SIGTERM)), flush=True)

    if not (child := os.fork()):
        cli.run(main)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert capfd.readouterr().out == 'True True\n'


@pytest.mark.parametrize('presses', [1, 2])
def test_ctrl_c_ends_a_tool_that_catches_every_exception(presses, capfd, monkeypatch):
    monkeypatch.setattr(cli, 'PATIENCE', 0.1 if presses == 1 else 60)

    def main():
        for _ in range(presses):
            with contextlib.suppress(BaseException):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(1)
        time.sleep(5)

    if not (child := os.fork()):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        cli.run(main, 'press on')
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGINT
    assert capfd.readouterr().err == '\ninterrupted; press on\n'


def test_a_rank_that_is_done_ends_without_shutting_down_the_interpreter(tmp_path):
    """Threads of gloo outlive the process group, and abort a rank that shuts down beside them."""
    script = tmp_path / 'tool.py'
    script.write_text(
        'import atexit, os, sys, torch\n'
        'from surge_mm.launch.cli import run\n'
        'class Object:\n'
        '    def __del__(self): os.write(1, b"shut down ")\n'
        'kept = Object()\n'
        'def main():\n'
        '    if "rank" in sys.argv:\n'
        '        torch.distributed.init_process_group(\n'
        f'            "gloo", init_method={(tmp_path / "store").as_uri()!r}, rank=0, world_size=1)\n'
        '    atexit.register(print, "at exit")\n'
        '    print("done")\n'
        'run(main)\n'
    )
    for arguments, output in ([], 'done\nat exit\nshut down '), (['rank'], 'done\nat exit\n'):
        done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, output), done.stderr
