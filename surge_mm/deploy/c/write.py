"""The C file and the header of a packed model."""

from __future__ import annotations

from importlib.resources import files
from typing import NamedTuple

from surge_mm.deploy.c.emit import Constants, network
from surge_mm.deploy.c.graph import Graph
from surge_mm.deploy.c.plan import ALIGNMENT, make_plan

SOURCES = ('layers.h', 'steps.c', 'plain.c')


class CCode(NamedTuple):
    """C code of a model.

    Attributes:
        source (str): Text of the C file.
        header (str): Text of the header.
        memory (int): Bytes of memory that a context needs.
        constants (int): Bytes of the weights and other constants.
    """

    source: str
    header: str
    memory: int
    constants: int


def c_code(graph: Graph, name: str, largest: list[tuple[int, int]], classes: tuple[str, ...]) -> CCode:
    plan = make_plan(graph, largest, workspaces(graph, largest))
    constants = Constants()
    body = network(graph, plan, constants, name)
    memory = plan.bytes + ALIGNMENT - 1
    fits = ' || '.join(f'(height <= {h} && width <= {w})' for h, w in largest)
    values = {
        'name': name,
        'NAME': name.upper(),
        'memory': str(memory),
        'maps': str(len(graph.outputs)),
        'fits': fits,
        'n_classes': str(len(classes)),
        'classes': ', '.join(map(c_string, classes)),
    }
    sources = files('surge_mm.deploy.c') / 'sources'
    text = {part: (sources / part).read_text() for part in (*SOURCES, 'api.h', 'api.c')}
    api = {part: _filled(text[part], values) for part in ('api.h', 'api.c')}
    parts = [f'#include "{name}.h"\n', *(text[part] for part in SOURCES)]
    parts += ['\n'.join(constants.lines), '', body, '', api['api.c']]
    return CCode('\n'.join(parts), api['api.h'], memory, constants.bytes)


def _filled(text: str, values: dict[str, str]) -> str:
    for key, value in values.items():
        text = text.replace(f'@{key}@', value)
    return text


def c_string(text: str) -> str:
    """Return a string literal of C, in ASCII."""
    out = ''
    for byte in text.encode():
        plain = 32 <= byte < 127 and chr(byte) not in '"\\?'
        out += chr(byte) if plain else f'\\{byte:03o}'
    return f'"{out}"'


def workspaces(graph: Graph, largest: list[tuple[int, int]]) -> dict[int, int]:
    found: dict[int, int] = {}
    for size in largest:
        shapes = graph.shapes(*size)
        for node in graph.nodes:
            s = shapes[node.inputs[0]]
            if node.kind == 'binary':
                g = node.options['convolution'].groups
                n = s.height * s.width * g * -(-(s.channels // g) // 32) * 4
            elif node.kind == 'int8':
                n = s.height * s.width * s.channels
            else:
                continue
            found[node.output] = max(found.get(node.output, 0), n)
    return found
