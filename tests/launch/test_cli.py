"""Options and exit of the tools."""

import subprocess
import sys

import pytest

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


def test_workers_of_a_tool_are_ended_by_sigterm_itself():
    """A handler in Python would not run in a worker that begins to wait for a lock as the signal comes."""
    script = """if True:
        import multiprocessing, signal, sys
        from surge_mm.launch.cli import run

        def say(queue):
            queue.put(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)

        def main():
            context = multiprocessing.get_context('fork')
            queue = context.SimpleQueue()
            context.Process(target=say, args=(queue,)).start()
            print(queue.get(), callable(signal.getsignal(signal.SIGTERM)))

        run(main)
    """
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
    assert done.stdout.split() == ['True', 'True'], done.stderr
