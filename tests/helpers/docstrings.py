"""Public functions of surge_mm with two parameters or more, and the parameters that their docstrings do not describe.

``python tests/helpers/docstrings.py`` lists what is missing.

Public is what can be imported without an underscore in its name or in that of its module. The parameters of a
constructor are described in the docstring of the class, under ``Args:``, or under ``Attributes:`` for a dataclass or a
named tuple. A method that overrides one of a base class with the same parameters needs no description of its own.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / 'surge_mm'
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Documented:
    """A public function, method or constructor.

    Attributes:
        name: dotted name.
        parameters: names of its parameters, without ``self`` and ``cls``.
        docstring: the docstring that describes them.
        sections: the headings that may describe them.
    """

    name: str
    parameters: tuple[str, ...]
    docstring: str
    sections: tuple[str, ...] = ('Args',)

    @property
    def missing(self) -> list[str]:
        described = described_names(self.docstring, self.sections)
        return [name for name in self.parameters if name not in described]


def described_names(docstring: str, sections: tuple[str, ...]) -> set[str]:
    """Return the names under Google-style headings: x, a and b for ``x (int): ...`` and ``a, b: ...``."""
    found: set[str] = set()
    inside = False
    for line in inspect.cleandoc(docstring).splitlines():
        if re.fullmatch(r'\w[\w ]*:', line):
            inside = line[:-1] in sections
        entry = re.match(r'    ((?:\*{0,2}\w+)(?:, \*{0,2}\w+)*)(?: \([^:]*\))?:', line)
        if inside and entry:
            found |= {name.lstrip('*') for name in entry[1].split(', ')}
    return found


def public_functions(package: Path = PACKAGE) -> Iterator[Documented]:
    """Yield everything public that has two parameters or more."""
    for file in sorted(package.rglob('*.py')):
        parts = [package.name, *file.relative_to(package).with_suffix('').parts]
        parts = parts[:-1] if parts[-1] == '__init__' else parts
        if not any(part.startswith(('_', '.')) for part in parts):
            module = '.'.join(parts)
            yield from _of_module(ast.parse(file.read_text()), module)


def _of_module(tree: ast.Module, module: str) -> Iterator[Documented]:
    for node in tree.body:
        if isinstance(node, Function) and not node.name.startswith('_'):
            yield from _with_two(f'{module}.{node.name}', _parameters(node), _docstring(node))
        elif isinstance(node, ast.ClassDef) and not node.name.startswith('_'):
            yield from _of_class(node, module)


def _of_class(node: ast.ClassDef, module: str) -> Iterator[Documented]:
    name = f'{module}.{node.name}'
    if _has_fields(node):
        fields = tuple(
            statement.target.id
            for statement in node.body
            if isinstance(statement, ast.AnnAssign)
            and isinstance(statement.target, ast.Name)
            and 'ClassVar' not in ast.unparse(statement.annotation)
        )
        yield from _with_two(name, fields, _docstring(node), ('Args', 'Attributes'))
    for method in node.body:
        if not isinstance(method, Function):
            continue
        static = any(ast.unparse(d) == 'staticmethod' for d in method.decorator_list)
        parameters = _parameters(method) if static else _parameters(method)[1:]
        if method.name == '__init__':
            yield from _with_two(name, parameters, _docstring(node))
        elif method.name.startswith('_') or len(parameters) < 2:
            continue
        elif not _overrides(module, node.name, method):
            yield from _with_two(f'{name}.{method.name}', parameters, _docstring(method))


def _with_two(
    name: str, parameters: tuple[str, ...], docstring: str, sections: tuple[str, ...] = ('Args',)
) -> Iterator[Documented]:
    if len(parameters) >= 2:
        yield Documented(name, parameters, docstring, sections)


def _docstring(node: ast.ClassDef | Function) -> str:
    return ast.get_docstring(node) or ''


def _parameters(node: Function) -> tuple[str, ...]:
    given = node.args
    several = [given.vararg, given.kwarg]
    return tuple(
        one.arg
        for one in (*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, several))
    )


def _has_fields(node: ast.ClassDef) -> bool:
    decorators = [ast.unparse(d) for d in node.decorator_list]
    bases = [ast.unparse(base) for base in node.bases]
    return any(d.startswith('dataclass') for d in decorators) or 'NamedTuple' in bases


def _overrides(module: str, cls: str, method: Function) -> bool:
    """Whether a base class has a method of this name with the same parameters, or an unspecific ``forward``."""
    made = getattr(importlib.import_module(module), cls)
    for base in made.__mro__[1:]:
        inherited = vars(base).get(method.name)
        inherited = getattr(inherited, '__func__', inherited)
        if inspect.isfunction(inherited):
            names = tuple(inspect.signature(inherited).parameters)
            return names == _parameters(method) or base.__module__.startswith('torch.autograd')
    return False


def main() -> None:
    """Print the functions with missing parameters, and the counts."""
    every = list(public_functions())
    incomplete = [one for one in every if one.missing]
    for one in incomplete:
        print(f'{one.name}: {", ".join(one.missing)}')
    print(f'{len(incomplete)} of {len(every)} public functions are incomplete')


if __name__ == '__main__':
    main()
