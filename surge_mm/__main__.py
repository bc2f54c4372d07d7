"""Run a tool of this package from any folder, or any program with the stack prepared.

python -m surge_mm                      list the tools
python -m surge_mm train CONFIG ...     run tools/train.py; surge-mm train CONFIG ... does the same
python -m surge_mm run SCRIPT ...       run a program after import surge_mm, such as a tool of a host
python -m surge_mm run -m MODULE ...    run a module after import surge_mm
"""

from __future__ import annotations

import ast
import os
import runpy
import sys
from pathlib import Path

from surge_mm.utils.suggestions import did_you_mean

TOOLS = Path(__file__).parent / '.mim' / 'tools'
SUFFIXES = ('.py', '.sh')


def main() -> None:
    """Run the tool or program of the command line."""
    tools = {path.stem: path for path in sorted(TOOLS.glob('[!_]*.*')) if path.suffix in SUFFIXES}
    name, *rest = sys.argv[1:] or ['--help']
    if name in ('-h', '--help'):
        print(__doc__ or '')
        print('\n'.join(f'{name:20} {_summary(path)}' for name, path in tools.items()))
    elif name == 'run':
        _run(rest)
    elif name not in tools:
        sys.exit(f'error: there is no tool {name!r}{did_you_mean(name, [*tools, "run"])}')
    elif tools[name].suffix == '.sh':
        os.environ.setdefault('PYTHON', sys.executable)
        os.execvp('bash', ['bash', str(tools[name]), *rest])
    else:
        sys.argv = [str(tools[name]), *rest]
        sys.path[0] = os.getcwd()  # for custom_imports, whichever command started this
        runpy.run_path(sys.argv[0], run_name='__main__')


def _run(words: list[str]) -> None:
    """Run ``SCRIPT ...`` or ``-m MODULE ...`` as Python does, after the import of this package."""
    is_module = words[:1] == ['-m']
    sys.argv = words[1:] if is_module else words
    if not sys.argv:
        sys.exit('usage: python -m surge_mm run SCRIPT ... | -m MODULE ...')
    if is_module:
        sys.path[0] = os.getcwd()
        runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)
    elif Path(sys.argv[0]).is_file():
        sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
        runpy.run_path(sys.argv[0], run_name='__main__')
    else:
        sys.exit(f'error: there is no program {sys.argv[0]!r} (looked from {Path.cwd()})')


def _summary(path: Path) -> str:
    """Return the first line of the description of a tool."""
    text = path.read_text(encoding='utf-8')
    if path.suffix == '.sh':
        return text.splitlines()[1].lstrip('# ')
    return (ast.get_docstring(ast.parse(text)) or '').partition('\n')[0]


if __name__ == '__main__':
    main()
