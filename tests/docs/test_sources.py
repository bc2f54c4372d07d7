"""Tables that point to code quote what is there, and the layout is that of the package."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from helpers.documents import PAGES, ROOT, name_of

try:
    import tomllib
except ImportError:  # Python 3.10, where pytest installs tomli
    import tomli as tomllib

HEADER = re.compile(r'^\| [^|]+ \| Code \| Where \|$', re.MULTILINE)
WHERE = re.compile(r'(?:`(?P<name>[\w.]+)`, )?\[`(?P<shown>[\w/.]+)`\]\((?P<path>[\w/.]+)\)')
CONTRIBUTING = (ROOT / 'CONTRIBUTING.md').read_text()
CONTRACTS = tomllib.loads((ROOT / 'pyproject.toml').read_text())['tool']['importlinter'][
    'contracts'
]


def cells_below(text: str) -> list[list[str]]:
    """Return the cells of the table at the start of a text, without its header."""
    lines = text.split('\n\n')[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip().strip('|').split('|')] for line in lines]


POINTERS = [
    (page, *cells)
    for page in PAGES
    for header in HEADER.finditer(page.read_text())
    for cells in cells_below(page.read_text()[header.start() :])
]
LAYOUT = {
    folder.strip('`/'): set(re.findall(r'`(\w+)`', imports))
    for folder, _, imports in cells_below(CONTRIBUTING[CONTRIBUTING.index('| Folder of') :])
}


@cache
def code_of(path: Path, name: str | None) -> frozenset[str]:
    """Return all statements and expressions of a file, or of a function or class in it, in one spelling.

    Comments and the text of docstrings are not among them.
    """
    node: ast.AST = ast.parse(path.read_text())
    for part in name.split('.') if name else ():
        found = [child for child in ast.iter_child_nodes(node) if _name(child) == part]
        assert len(found) == 1, f'{path.name} has {len(found)} definitions of {name}'
        (node,) = found
    inner = [child for child in ast.walk(node) if isinstance(child, ast.stmt | ast.expr)]
    return frozenset(ast.unparse(child) for child in inner)


def _name(node: ast.AST) -> str | None:
    defines = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return node.name if isinstance(node, defines) else None


@pytest.mark.parametrize(
    'page, what, code, where', POINTERS, ids=[f'{name_of(row[0])}: {row[1]}' for row in POINTERS]
)
def test_code_that_a_document_quotes_is_where_it_points(page, what, code, where) -> None:
    target = WHERE.fullmatch(where)
    assert target, where
    path = (page.parent / target['path']).resolve()
    assert path.is_relative_to(ROOT / 'surge_mm') and path.as_posix().endswith(target['shown'])
    quoted = re.findall('`(.+?)`', code)
    assert quoted
    for line in quoted:
        (statement,) = ast.parse(line).body
        assert ast.unparse(statement) in code_of(path, target['name']), line


def test_documents_point_to_the_statement_that_computes_lambda() -> None:
    for name in ('CONTRIBUTING.md', 'docs/method.md'):
        shown = [
            row for row in POINTERS if name_of(row[0]) == name and '`self.eta * norm_b' in row[2]
        ]
        assert len(shown) == 1, name


def test_docstrings_and_other_functions_are_not_taken_for_the_code_of_a_class() -> None:
    path = ROOT / 'surge_mm/ops/gradient_scale.py'
    assert 'lam = value' in path.read_text() and 'lam = value' not in code_of(path, 'FixedScale')
    assert 'EPS = 1e-08' in code_of(path, None) - code_of(path, 'FixedScale')


def test_layout_of_contributing_is_that_of_the_package() -> None:
    assert set(LAYOUT) == {path.parent.name for path in ROOT.glob('surge_mm/*/__init__.py')}
    for path in ROOT.glob('surge_mm/*.py'):
        assert path.name == '__init__.py' or f'`{path.name}`' in CONTRIBUTING, path.name


@pytest.mark.parametrize('folder', sorted(LAYOUT))
def test_a_folder_imports_what_the_layout_allows(folder: str) -> None:
    imported = set()
    for path in (ROOT / 'surge_mm' / folder).rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f'{node.module}.{alias.name}' for alias in node.names]
            imported |= {name.split('.')[1] for name in names if name.startswith('surge_mm.')}
    assert imported, 'no import of this package was found'
    assert imported & set(LAYOUT) <= LAYOUT[folder] | {folder}


def test_layout_is_that_of_the_contracts_of_make_lint() -> None:
    forbidden = {
        (source.removeprefix('surge_mm.'), target.removeprefix('surge_mm.'))
        for contract in CONTRACTS
        if contract['type'] == 'forbidden'
        for source in contract['source_modules']
        for target in contract['forbidden_modules']
    }
    assert not [pair for pair in forbidden if pair[1] in LAYOUT.get(pair[0], ())]
    for contract in CONTRACTS:
        if contract['type'] == 'layers':
            levels = [re.findall(r'\w+', level) for level in contract['layers']]
            for i, level in enumerate(levels):
                below = {name for lower in levels[i + 1 :] for name in lower}
                others = {name for upper in levels[: i + 1] for name in upper}
                for folder in level:
                    allowed = {name for name in below if (folder, name) not in forbidden}
                    assert allowed <= LAYOUT[folder] and not others & LAYOUT[folder], folder
