"""Places of all maps in one block of memory, shared by maps that are not needed at the same time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from surge_mm.deploy.arena import Life, align, places
from surge_mm.deploy.c.graph import LAYERS, Graph, Node, Shape

IN_PLACE = ('pointwise', 'function', 'scale')
"""Kinds of nodes that may write over their input."""
BEFORE, AFTER = -1, -2
"""In place of the number of a map, for workspaces before and after the network."""
Form = Literal['values', 'signs', 'workspace', 'lines']


@dataclass(eq=False)
class Buffer:
    """A part of the memory.

    Attributes:
        bytes (int): Its size, for the largest image.
        first (int): Index of the first node that needs it.
        last (int): Index of the last one.
        offset (int): Its place.
    """

    bytes: int
    first: int
    last: int
    offset: int = -1


@dataclass
class Plan:
    """Memory of a network.

    Attributes:
        buffers (dict[tuple[int, str], Buffer]): Of the values and the signs of each map, and the workspace of each
            node, by the number of the map and ``'values'``, ``'signs'`` or ``'workspace'``. Maps whose signs alone are
            read have no values. ``'lines'`` are the rows of the image that a layer reads at a time.
        signs_from (dict[int, Node]): For each map with signs, the first layer that reads them.
        bytes (int): Size of the memory.
    """

    buffers: dict[tuple[int, Form], Buffer] = field(default_factory=dict)
    signs_from: dict[int, Node] = field(default_factory=dict)
    bytes: int = 0

    @property
    def largest_workspace(self) -> int:
        """Bytes of the largest workspace of a node."""
        return max(
            align(buffer.bytes)
            for (value, form), buffer in self.buffers.items()
            if form == 'workspace' and value > 0
        )


def sign_readers(graph: Graph, value: int) -> list[Node]:
    """Return the binary layers that can read the signs of a map in place of its values: all with the same shift.

    Args:
        graph (Graph): The network.
        value (int): The map.
    """
    layers = [
        node
        for node in graph.readers(value)
        if node.kind == 'binary'
        and node.inputs[0] == value
        and node.options['convolution'].groups == 1
    ]
    return [node for node in layers if _same_shift(node, layers[0])]


def _same_shift(one: Node, other: Node) -> bool:
    a, b = one.options['shift'], other.options['shift']
    return a is b or (a is not None and b is not None and np.array_equal(a, b))


def reader_of_rows(graph: Graph) -> Node | None:
    """Return the convolution that alone reads the image and can do so by rows, or None.

    Args:
        graph (Graph): The network.
    """
    readers = graph.readers(0)
    if len(readers) != 1 or readers[0].kind not in ('int8', 'float') or readers[0].shortcut == 0:
        return None
    convolution, (kernel, _) = (
        readers[0].options['convolution'],
        readers[0].options['weight'].shape[2:],
    )
    extent = (kernel - 1) * convolution.dilation[0] + 1
    fits = max(*convolution.padding[2:], convolution.stride[0] - 1) < extent
    return readers[0] if fits and 0 not in graph.outputs.values() else None


def make_plan(
    graph: Graph,
    largest: list[tuple[int, int]],
    workspaces: dict[int, int],
    before: int = 0,
    after: int = 0,
    lines: int | None = None,
) -> Plan:
    """Return the places of all buffers.

    A map may be written over one that is not read any more: over the input of steps that are computed number by number,
    and over the shortcut of a convolution, which is read at the same place. The signs of a map have their own buffer.

    Args:
        graph (Graph): The network.
        largest (list[tuple[int, int]]): Heights and widths of the largest images.
        workspaces (dict[int, int]): Bytes of the workspace of a node, by its output.
        before (int): Bytes that are needed to prepare the image, beside its numbers. Defaults to 0.
        after (int): Bytes that are needed after the network, beside its outputs. Defaults to 0.
        lines (int, optional): Bytes of the rows of the image that :func:`reader_of_rows` reads at a time, 0 if the
            image is given. Defaults to None, for memory for the whole image.
    """
    plan, end = Plan(), len(graph.nodes)
    all_shapes = [graph.shapes(*size) for size in largest]
    outputs = set(graph.outputs.values())

    def largest_bytes(value: int, form: Form) -> int:
        return max(_bytes(shapes[value], form) for shapes in all_shapes)

    def last_use(value: int, by_signs: list[Node]) -> tuple[int, int]:
        reads = {'values': [-1], 'signs': [-1]}
        for i, node in enumerate(graph.nodes):
            if node in by_signs:
                reads['signs'].append(i)
            if value in ([node.shortcut] if node in by_signs else node.reads()):
                reads['values'].append(i)
        return end if value in outputs else max(reads['values']), max(reads['signs'])

    prepared = -1  # the last node before which the image is prepared
    if lines is None:
        plan.buffers[0, 'values'] = Buffer(largest_bytes(0, 'values'), -1, last_use(0, [])[0])
    elif lines and (by_rows := reader_of_rows(graph)):
        prepared = graph.nodes.index(by_rows)
        plan.buffers[by_rows.output, 'lines'] = Buffer(lines, prepared, prepared)
    for i, node in enumerate(graph.nodes):
        value = node.output
        by_signs = sign_readers(graph, value) if node.kind in LAYERS else []
        last_value, last_sign = last_use(value, by_signs)
        if by_signs:
            plan.signs_from[value] = by_signs[0]
            plan.buffers[value, 'signs'] = Buffer(largest_bytes(value, 'signs'), i, last_sign)
        if last_value >= 0:
            over = _overwritten(node, plan)
            source = plan.buffers.get((over, 'values')) if over else None
            if source is not None and source.last == i:
                source.last = last_value
                plan.buffers[value, 'values'] = source
            else:
                size = largest_bytes(value, 'values')
                plan.buffers[value, 'values'] = Buffer(size, i, last_value)
        if workspaces.get(value):
            plan.buffers[value, 'workspace'] = Buffer(workspaces[value], i, i)
    plan.buffers[BEFORE, 'workspace'] = Buffer(before, -1, prepared)
    plan.buffers[AFTER, 'workspace'] = Buffer(after, end, end)
    plan.bytes = _place(list({id(b): b for b in plan.buffers.values()}.values()))
    return plan


def _overwritten(node: Node, plan: Plan) -> int | None:
    """Return the map over which a node may write, unless it is read later. It is never the image, 0."""
    first = node.inputs[0]
    if node.kind in IN_PLACE:  # in x + f(x) each number is read twice
        return None if node.shortcut == first else first
    if node.kind in LAYERS and (node.shortcut != first or reads_signs(node, plan, first)):
        return node.shortcut
    return None


def reads_signs(node: Node, plan: Plan, value: int) -> bool:
    """Return whether a node reads the signs of a map that its plan keeps, in place of its values.

    Args:
        node (Node): The node.
        plan (Plan): The plan.
        value (int): The map.
    """
    if node.kind != 'binary' or node.inputs[0] != value or value not in plan.signs_from:
        return False
    return node.options['convolution'].groups == 1 and _same_shift(node, plan.signs_from[value])


class Plans(NamedTuple):
    """Memory of a network with kernels by vectors, and in plain C. Both have the same buffers.

    Attributes:
        vectors (Plan): With kernels by vectors.
        plain (Plan): In plain C.
    """

    vectors: Plan
    plain: Plan

    def place(self, value: int, form: Form) -> str:
        """Return the place of a buffer as an expression in C.

        Args:
            value (int): The map, or the output of the node.
            form (Form): The form of the buffer.
        """
        return either(*(plan.buffers[value, form].offset for plan in self))


def either(vectors: int, plain: int) -> str:
    """Return a number in C that depends on whether there are kernels by vectors.

    Args:
        vectors (int): The number with them.
        plain (int): The number in plain C.
    """
    return str(vectors) if vectors == plain else f'SURGE_EITHER({vectors}, {plain})'


def _bytes(shape: Shape, form: Form) -> int:
    per_pixel = -(-shape.channels // 32) if form == 'signs' else shape.channels
    return 4 * shape.height * shape.width * per_pixel


def _place(buffers: list[Buffer]) -> int:
    """Give each buffer a place that is free while it is needed. Return the size of all."""
    offsets, size = places([Life(b.bytes, b.first, b.last) for b in buffers])
    for buffer, offset in zip(buffers, offsets, strict=True):
        buffer.offset = offset
    return align(size)
