"""Places of all maps in one block of memory, shared by maps that are not needed at the same time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from surge_mm.deploy.c.graph import LAYERS, Graph, Node, Shape

ALIGNMENT = 64
IN_PLACE = ('pointwise', 'function', 'scale')
"""Kinds of nodes that may write over their input."""
BEFORE, AFTER = -1, -2
"""In place of the number of a map, for workspaces before and after the network."""
Form = Literal['values', 'signs', 'workspace']


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

    def meets(self, other: Buffer) -> bool:
        """Return whether both are needed at the same time."""
        return self.first <= other.last and other.first <= self.last


@dataclass
class Plan:
    """Memory of a network.

    Attributes:
        buffers (dict[tuple[int, str], Buffer]): Of the values and the signs of each map, and the workspace of each
            node, by the number of the map and ``'values'``, ``'signs'`` or ``'workspace'``. Maps whose signs alone are
            read have no values.
        signs_from (dict[int, Node]): For each map with signs, the first layer that reads them.
        bytes (int): Size of the memory.
    """

    buffers: dict[tuple[int, Form], Buffer] = field(default_factory=dict)
    signs_from: dict[int, Node] = field(default_factory=dict)
    bytes: int = 0


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


def make_plan(
    graph: Graph,
    largest: list[tuple[int, int]],
    workspaces: dict[int, int],
    before: int = 0,
    after: int = 0,
) -> Plan:
    """Return the places of all buffers.

    Args:
        graph (Graph): The network.
        largest (list[tuple[int, int]]): Heights and widths of the largest images.
        workspaces (dict[int, int]): Bytes of the workspace of a node, by its output.
        before (int): Bytes that are needed to prepare the image, beside the image. Defaults to 0.
        after (int): Bytes that are needed after the network, beside its outputs. Defaults to 0.
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

    plan.buffers[0, 'values'] = Buffer(largest_bytes(0, 'values'), -1, last_use(0, [])[0])
    for i, node in enumerate(graph.nodes):
        value = node.output
        by_signs = sign_readers(graph, value) if node.kind in LAYERS else []
        last_value, last_sign = last_use(value, by_signs)
        if by_signs:
            plan.signs_from[value] = by_signs[0]
            plan.buffers[value, 'signs'] = Buffer(largest_bytes(value, 'signs'), i, last_sign)
        if last_value >= 0:
            source = plan.buffers.get((node.inputs[0], 'values'))
            if node.kind in IN_PLACE and source is not None and source.last == i and node.inputs[0]:
                source.last = last_value
                plan.buffers[value, 'values'] = source
            else:
                size = largest_bytes(value, 'values')
                plan.buffers[value, 'values'] = Buffer(size, i, last_value)
        if workspaces.get(value):
            plan.buffers[value, 'workspace'] = Buffer(workspaces[value], i, i)
    plan.buffers[BEFORE, 'workspace'] = Buffer(before, -1, -1)
    plan.buffers[AFTER, 'workspace'] = Buffer(after, end, end)
    plan.bytes = _place(list({id(b): b for b in plan.buffers.values()}.values()))
    return plan


def _bytes(shape: Shape, form: Form) -> int:
    per_pixel = -(-shape.channels // 32) if form == 'signs' else shape.channels
    return 4 * shape.height * shape.width * per_pixel


def _place(buffers: list[Buffer]) -> int:
    """Give each buffer the lowest place that is free while it is needed, the largest first. Return the size of all."""
    placed: list[Buffer] = []
    for buffer in sorted(buffers, key=lambda b: -b.bytes):
        offset = 0
        for other in sorted((b for b in placed if b.meets(buffer)), key=lambda b: b.offset):
            if offset + buffer.bytes <= other.offset:
                break
            offset = max(offset, _aligned(other.offset + other.bytes))
        buffer.offset = offset
        placed.append(buffer)
    return max(_aligned(b.offset + b.bytes) for b in buffers)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
