"""The C file and the header of a network, out of the sources that it needs."""

from __future__ import annotations

from importlib.resources import files
from typing import NamedTuple

from surge_mm.deploy.arena import ALIGNMENT
from surge_mm.deploy.c.emit import Constants, network
from surge_mm.deploy.c.epilogues import with_thresholds
from surge_mm.deploy.c.graph import Graph
from surge_mm.deploy.c.heads import Head, c_head
from surge_mm.deploy.c.images import InputSteps, c_input
from surge_mm.deploy.c.kernels import kernels
from surge_mm.deploy.c.plan import (
    AFTER,
    BEFORE,
    Plan,
    Plans,
    make_plan,
    reader_of_rows,
)
from surge_mm.deploy.c.weights import rows_of_image, workspace_bytes
from surge_mm.version import __version__

Sizes = list[tuple[int, int]]
"""Heights and widths of the largest images."""
MOST_THREADS = 64
"""Most threads of a context; ``SURGE_MOST_THREADS`` in C."""
TEAM = 1024 + ALIGNMENT - 1
"""Bytes of memory that they share: ``SURGE_TEAM_BYTES`` in C, and room to align it."""
TITLE = f"""/* {{0}}.c: a network with binary layers, by surge_mm {__version__}. Its functions are described in {{0}}.h.
 *
 *     cc -O2 -c {{0}}.c
 *
 * It needs the C library and its mathematics (-lm) alone.
 */

#include "{{0}}.h"
"""


class CFile(NamedTuple):
    """A model in C.

    Attributes:
        source (str): Text of the C file.
        header (str): Text of the header.
        memory (int): Bytes of memory that it needs to run.
        plain_memory (int): The same on CPUs for which it has no kernels by vectors.
        workspace (int): Bytes of memory that each thread after the first one needs beside, with ``SURGE_THREADS``.
        plain_workspace (int): The same on CPUs for which it has no kernels by vectors.
        constants (int): Bytes of its weights and other constants.
        largest (Sizes): Heights and widths of the largest images.
        classes (int): Number of its classes.
        boxes (int): Largest number of boxes of a picture. 0 if it is no detector.
    """

    source: str
    header: str
    memory: int
    plain_memory: int
    workspace: int
    plain_workspace: int
    constants: int
    largest: Sizes
    classes: int
    boxes: int


class Task(NamedTuple):
    """Steps of a detector or a classifier before and after its network.

    Attributes:
        steps (InputSteps): From the pixels of a picture to the image.
        head (Head, optional): From the maps to boxes. None for a classifier, whose scores are a softmax.
    """

    steps: InputSteps
    head: Head | None


def c_file(
    graph: Graph,
    name: str,
    largest: Sizes,
    classes: tuple[str, ...] = (),
    task: Task | None = None,
) -> CFile:
    """Return the C code of a network.

    Args:
        graph (Graph): The network.
        name (str): Prefix of all names in the header.
        largest (Sizes): Heights and widths of the largest images.
        classes (tuple[str, ...]): Names of the classes. Defaults to their numbers.
        task (Task, optional): What a detector or a classifier has beside its network. Defaults to None.
    """
    graph = with_thresholds(graph)
    head, outputs = task and task.head, list(graph.outputs.values())
    made = [_plan(graph, largest, task, vectors) for vectors in (True, False)]
    plans = Plans(*(plan for plan, _ in made))
    constants = Constants()
    body = network(graph, plans, (made[0][1], made[1][1]), constants, name)
    memory, plain_memory = (plan.bytes + ALIGNMENT - 1 for plan in plans)
    workspace, plain_workspace = (plan.largest_workspace for plan in plans)
    most = head.max_boxes if head else 0
    scores = graph.shapes(*largest[0])[outputs[0]].channels
    n_classes = head.classes if head else scores if task else 0
    classes += tuple(map(str, range(len(classes), n_classes)))
    values = {
        'name': name,
        'NAME': name.upper(),
        'memory': str(memory),
        'plain_memory': str(plain_memory),
        'workspace': str(workspace),
        'plain_workspace': str(plain_workspace),
        'team': str(TEAM),
        'most_threads': str(MOST_THREADS),
        'maps': str(len(graph.outputs)),
        'fits': ' || '.join(f'(height <= {h} && width <= {w})' for h, w in largest),
        'n_classes': str(len(classes)),
        'n_boxes': str(most),
        'classes': ''.join(f'{c_string(text)}, ' for text in classes),
        'scores': str(scores),
        'before': plans.place(BEFORE, 'workspace'),
        'after': plans.place(AFTER, 'workspace'),
    }
    api = 'detect' if head else 'classify'
    values['task'] = filled(source(f'{api}.h'), values) if task else ''
    parts = [TITLE.format(name), *map(source, ('layers.h', 'threads.c', 'steps.c'))]
    parts.append(kernels({node.kind for node in graph.nodes}))
    parts.append(source('image.c'))
    if by_rows := reader_of_rows(graph):
        parts.append(f'SURGE_OF_IMAGE({by_rows.kind})')
    functions = {node.options['function'] for node in graph.nodes if node.kind == 'function'}
    if functions:
        parts.append(source('functions.c'))
        parts += [f'SURGE_EACH(surge_{function})' for function in sorted(functions)]
    parts += ['\n'.join(constants.lines), '', body, '', filled(source('api.c'), values)]
    if task:
        parts += [*map(source, task.steps.sources), c_input(task.steps, 'input')]
    if head:
        parts += [f'typedef {name}_map surge_map;\ntypedef {name}_box surge_box;\n']
        parts += [source('boxes.c'), c_head(head, 'head')]
    if task:
        parts.append(filled(source(f'{api}.c'), values))
    header = filled(source('api.h'), values)
    sizes = memory, plain_memory, workspace, plain_workspace, constants.bytes
    return CFile('\n'.join(parts), header, *sizes, largest, len(classes), most)


def _plan(graph: Graph, largest: Sizes, task: Task | None, vectors: bool) -> tuple[Plan, int]:
    """Return the plan, and the output rows that the reader of the image computes at a time."""
    workspaces: dict[int, int] = {}
    after = band = rows = 0
    if by_rows := reader_of_rows(graph):
        widest = max(width for _, width in largest) * graph.channels
        band, rows = rows_of_image(by_rows, widest, vectors)
    for size in largest:
        shapes = graph.shapes(*size)
        for node in graph.nodes:
            shape = shapes[node.inputs[0]]
            if node is by_rows:
                shape = shape._replace(height=rows)
            needed = workspace_bytes(node, shape, vectors)
            workspaces[node.output] = max(needed, workspaces.get(node.output, 0))
        if task and task.head:
            levels = list(graph.outputs.values())[: len(task.head.strides)]
            after = max(after, task.head.workspace([shapes[i][:2] for i in levels]))
    before = task.steps.workspace if task else 0
    lines = 0 if not task else 4 * rows * widest if by_rows else None
    return make_plan(graph, largest, workspaces, before, after, lines), band


def source(name: str) -> str:
    """Return the text of a file in ``sources``."""
    return (files('surge_mm.deploy.c') / 'sources' / name).read_text()


def filled(text: str, values: dict[str, str]) -> str:
    """Return a text with ``@key@`` replaced by the value of each key.

    Args:
        text (str): The text.
        values (dict[str, str]): The values.
    """
    for key, value in values.items():
        text = text.replace(f'@{key}@', value)
    return text


def c_string(text: str) -> str:
    """Return a string literal of C, in ASCII."""
    plain = (32 <= byte < 127 and chr(byte) not in '"\\?' for byte in text.encode())
    pairs = zip(text.encode(), plain, strict=True)
    return f'"{"".join(chr(byte) if keep else f"{chr(92)}{byte:03o}" for byte, keep in pairs)}"'
