"""The documents of the repository: their commands, blocks of Python, configs, links and headings."""

import argparse
import importlib
import re
import runpy
import subprocess
import sys
from functools import cache
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        ROOT / name
        for name in ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'benchmarks/README.md')
    ]
    + [page for page in (ROOT / 'docs').rglob('*.md') if '_build' not in page.parts]
    + list((ROOT / 'configs').rglob('README.md'))
)
FENCE = re.compile(r'^```(\w*)\n(.*?)^```', re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r'(?:^    .*\n)+', re.MULTILINE)
PROGRAMS = ('python ', 'tools/', 'benchmarks/', 'make ', 'pip ', 'source ')
INLINE = ('python ', 'tools/dist_', 'make ', 'pip ')


def name_of(page: Path) -> str:
    """Return the path of a page in the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a page in one language."""
    return [body for kind, body in FENCE.findall(page.read_text()) if kind == language]


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    return FENCE.sub('', page.read_text())


def commands(page: Path) -> list[str]:
    """Return the command lines of a page: of shell blocks, of indented blocks, and inline ones."""
    texts = blocks(page, 'shell')
    texts += [re.sub('^    ', '', text, flags=re.M) for text in INDENTED.findall(prose(page))]
    lines = [line for text in texts for line in text.replace('\\\n', ' ').splitlines()]
    found = [line.strip() for line in lines if re.sub(r'^(\w+=\S+ )+', '', line.strip())]
    inline = re.findall(r'`([^`]+)`', prose(page))
    found += [' '.join(code.split()) for code in inline if code.startswith(INLINE) and ' ' in code]
    starts = [re.sub(r'^(\w+=\S+ )+', '', line) for line in found]
    return [line for line, start in zip(found, starts, strict=True) if start.startswith(PROGRAMS)]


def words(command: str) -> list[str]:
    """Split a command into words, braces expanded, without environment settings, comments and redirections."""
    command = re.sub(r'\s[12]?>>?\s*\S+', '', command)
    said = subprocess.run(
        ['bash', '-c', f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True
    )
    result = said.stdout.splitlines()
    while re.fullmatch(r'\w+=.*', result[0]):
        result.pop(0)
    return result


def expand(pattern: str) -> list[str]:
    """Return the names that a pattern with braces matches."""
    return words(pattern)


def configs() -> list[str]:
    """Every config of this repository that a page names."""
    found = {
        name
        for page in PAGES
        for pattern in re.findall(r'(?<![\w:/])configs/[\w./{},-]+?\.py', page.read_text())
        for name in expand(pattern)
    }
    return sorted(found)


class Parsed(BaseException):
    """The arguments were parsed; what follows is not run."""


def parse(script: str, arguments: list[str]) -> argparse.Namespace:
    """Parse arguments as the tool at a path does, without running it. A wrong argument ends in SystemExit."""
    return _parse(_main_of(script), script, arguments)


def parse_module(name: str, arguments: list[str]) -> argparse.Namespace:
    """Parse arguments as a module does that ``python -m`` runs."""
    return _parse(importlib.import_module(name).main, name, arguments)


@cache
def _main_of(script: str):
    folder = str((ROOT / script).parent)
    with mock.patch.object(sys, 'path', [folder, *sys.path]):
        return runpy.run_path(str(ROOT / script), run_name='documented')['main']


def _parse(main, name: str, arguments: list[str]) -> argparse.Namespace:
    parse_args = argparse.ArgumentParser.parse_args

    def parse_and_stop(self, *args, **kwargs):
        raise Parsed(parse_args(self, *args, **kwargs))

    with (
        mock.patch.object(sys, 'argv', [name, *arguments]),
        mock.patch.object(argparse.ArgumentParser, 'parse_args', parse_and_stop),
    ):
        try:
            main()
        except Parsed as parsed:
            return parsed.args[0]
    raise AssertionError(f'{name} parses no arguments')


def slugs(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    found: set[str] = set()
    # the documentation links to headings of three levels, myst_heading_anchors
    for heading in re.findall(r'^#{1,3} (.+)$', prose(page), re.MULTILINE):
        kept = re.sub(r'[^\w\- ]', '', heading.strip().lower().replace('`', ''))
        slug = base = kept.replace(' ', '-')
        number = 0
        while slug in found:
            number += 1
            slug = f'{base}-{number}'
        found.add(slug)
    return found
