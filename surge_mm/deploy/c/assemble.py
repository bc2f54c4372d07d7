"""The C file and the header of a network, out of the sources that it needs."""

from __future__ import annotations

from importlib.resources import files
from typing import NamedTuple

from surge_mm.deploy.c.emit import Constants, network
from surge_mm.deploy.c.graph import Graph
from surge_mm.deploy.c.heads import Head, c_head
from surge_mm.deploy.c.images import InputSteps, c_input
from surge_mm.deploy.c.kernels import kernels
from surge_mm.deploy.c.plan import AFTER, ALIGNMENT, BEFORE, make_plan
from surge_mm.deploy.c.weights import workspace_bytes
from surge_mm.version import __version__

Sizes = list[tuple[int, int]]
"""Heights and widths of the largest images."""
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
        constants (int): Bytes of its weights and other constants.
        largest (Sizes): Heights and widths of the largest images.
        classes (int): Number of its classes.
        boxes (int): Largest number of boxes of a picture. 0 if it is no detector.
    """

    source: str
    header: str
    memory: int
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
    workspaces: dict[int, int] = {}
    before = after = 0
    head, outputs = task and task.head, list(graph.outputs.values())
    for size in largest:
        shapes = graph.shapes(*size)
        for node in graph.nodes:
            needed = workspace_bytes(node, shapes[node.inputs[0]])
            workspaces[node.output] = max(needed, workspaces.get(node.output, 0))
        if task:
            before = task.steps.workspace
        if head:
            levels = outputs[: len(head.strides)]
            after = max(after, head.workspace([shapes[i][:2] for i in levels]))
    plan = make_plan(graph, largest, workspaces, before, after)
    constants = Constants()
    body = network(graph, plan, constants, name)
    memory = plan.bytes + ALIGNMENT - 1
    most = head.max_boxes if head else 0
    scores = shapes[outputs[0]].channels
    n_classes = head.classes if head else scores if task else 0
    classes += tuple(map(str, range(len(classes), n_classes)))
    values = {
        'name': name,
        'NAME': name.upper(),
        'memory': str(memory),
        'maps': str(len(graph.outputs)),
        'fits': ' || '.join(f'(height <= {h} && width <= {w})' for h, w in largest),
        'n_classes': str(len(classes)),
        'n_boxes': str(most),
        'classes': ''.join(f'{c_string(text)}, ' for text in classes),
        'scores': str(scores),
        'image': str(plan.buffers[0, 'values'].offset),
        'before': str(plan.buffers[BEFORE, 'workspace'].offset),
        'after': str(plan.buffers[AFTER, 'workspace'].offset),
    }
    api = 'detect' if head else 'classify'
    values['task'] = filled(source(f'{api}.h'), values) if task else ''
    parts = [TITLE.format(name), source('layers.h'), source('steps.c')]
    parts.append(kernels({node.kind for node in graph.nodes}))
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
    return CFile('\n'.join(parts), header, memory, constants.bytes, largest, len(classes), most)


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
