"""The long cases of ``make stress``, and the report that they write.

A module here is a section of the report: its docstring is the text (the first line the heading), and each row of its
table is what a test gave to ``record``. The report is written if every test has passed, and only then. After a
failure or an interruption, ``--resume`` runs the tests that have not passed yet, and the report has the rows of all
runs.
"""

from __future__ import annotations

import ast
import os
import platform
import time
from collections import defaultdict
from pathlib import Path

import pytest
import torch

import surge_mm

COLUMN = 'reliability'
CACHE = 'surge_mm/stress'
HEAD = """# Reliability

Results of `make stress`, which writes this page when all of its cases pass. `make test` has short cases of the same
kinds. This run: {machine}; Python {python}, PyTorch {torch}, surge_mm {surge_mm}; {minutes:.0f} minutes{runs}.
"""


def pytest_addoption(parser):
    parser.addoption('--report', metavar='FILE', help='write what was tried there')
    parser.addoption(
        '--resume', action='store_true', help='leave out what passed in the last unfinished run'
    )


@pytest.fixture
def record(record_property):
    """``record(what, tried, outcome)``: a row of the report, with the number of cases."""

    def add(what: str, tried: int, outcome: str) -> None:
        record_property(COLUMN, (what, tried, outcome))

    return add


def pytest_collection_modifyitems(config, items):
    if config.getoption('--resume'):
        passed = config.cache.get(CACHE, {}).get('rows', {})
        items[:] = [item for item in items if item.nodeid not in passed]
    items.sort(key=lambda item: 'test_soak' not in item.nodeid)  # the longest begins first


def pytest_configure(config):
    if config.getoption('--report') and not hasattr(config, 'workerinput'):
        config.pluginmanager.register(Report(Path(config.getoption('--report')), config))


class Report:
    """Collects the rows, from workers too, and writes them."""

    def __init__(self, out: Path, config: pytest.Config) -> None:
        self.out, self.config = out, config
        before = config.cache.get(CACHE, {}) if config.getoption('--resume') else {}
        self.rows: dict[str, list[tuple[str, int, str]]] = before.get('rows', {})
        self.runs, self.minutes = before.get('runs', 0) + 1, before.get('minutes', 0.0)
        self.begun = time.monotonic()

    def pytest_runtest_logreport(self, report):
        if report.when == 'call' and report.passed:
            self.rows[report.nodeid] = [v for name, v in report.user_properties if name == COLUMN]
            state = {'rows': self.rows, 'runs': self.runs, 'minutes': self.all_minutes()}
            self.config.cache.set(CACHE, state)

    def all_minutes(self) -> float:
        return self.minutes + (time.monotonic() - self.begun) / 60

    def pytest_terminal_summary(self, terminalreporter, exitstatus):
        if exitstatus != 0:
            terminalreporter.write_line(
                f'{self.out} was not written: not everything passed. --resume runs the rest'
            )
            return
        self.out.write_text(self.text())
        terminalreporter.write_line(f'wrote {self.out}')

    def text(self) -> str:
        parts = [
            HEAD.format(
                machine=machine(),
                python=platform.python_version(),
                torch=torch.__version__,
                surge_mm=surge_mm.__version__,
                minutes=self.all_minutes(),
                runs=f' in {self.runs} runs, each of what had not passed' if self.runs > 1 else '',
            )
        ]
        files = defaultdict(list)
        for nodeid, rows in self.rows.items():
            files[nodeid.partition('::')[0]] += rows
        for file, rows in sorted(files.items()):
            docstring = ast.get_docstring(ast.parse(Path(file).read_text())) or file
            heading, _, text = docstring.partition('\n')
            parts.append(f'## {heading.rstrip(".")}\n\n{text.strip()}\n')
            table = ['| what | cases | outcome |', '| --- | --- | --- |']
            table += [f'| {what} | {tried:,} | {outcome} |' for what, tried, outcome in rows]
            parts.append('\n'.join(table) + '\n')
        return '\n'.join(parts)


def machine() -> str:
    """Return the processor and the number of cores that this process may use."""
    names = [
        line.partition(':')[2].strip()
        for line in Path('/proc/cpuinfo').read_text().splitlines()
        if line.startswith('model name')
    ]
    return f'{len(os.sched_getaffinity(0))} cores of {names[0] if names else platform.machine()}'
