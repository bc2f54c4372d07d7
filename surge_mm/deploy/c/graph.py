"""Operations of a network from image to maps, with the shapes of all maps for any size of image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from surge_mm.ops import Convolution
from surge_mm.utils.errors import UsageError

LAYERS = ('binary', 'int8', 'float')
"""Kinds of nodes that are convolutions."""
STEPS = ('m1', 'a1', 'm2', 'a2', 'shortcut', 'p', 'slope', 'c', 'low', 'high')
"""Steps of an epilogue, in the order of :mod:`surge_mm.deploy.packing.epilogue`."""


class Shape(NamedTuple):
    """Shape of a map of one image, in memory as (height, width, channels).

    Attributes:
        height (int): Rows.
        width (int): Columns.
        channels (int): Numbers of a pixel.
    """

    height: int
    width: int
    channels: int


@dataclass(eq=False)
class Node:
    """An operation with one output.

    Attributes:
        kind (str): One of :data:`LAYERS`, or ``'pointwise'`` (an epilogue alone), ``'max_pool'``, ``'average_pool'``,
            ``'global_average'``, ``'upsample'``, ``'concatenate'``, ``'slice'``, ``'scale'`` (a map times one number
            per channel) or ``'function'``.
        name (str): Name of the module that computes it.
        inputs (list[int]): Maps that it reads, without the shortcut.
        output (int): The map that it makes.
        options (dict[str, Any]): Numbers of this kind, such as the ``convolution`` of a layer.
        steps (dict[str, np.ndarray]): Epilogue: one number per channel for each step that is not left out.
        shortcut (int, optional): Map that is added in the epilogue.
    """

    kind: str
    name: str
    inputs: list[int]
    output: int
    options: dict[str, Any] = field(default_factory=dict)
    steps: dict[str, np.ndarray] = field(default_factory=dict)
    shortcut: int | None = None

    def reads(self) -> list[int]:
        """Return all maps that the node reads."""
        return [*self.inputs, *([] if self.shortcut is None else [self.shortcut])]

    def can_add(self, step: str) -> bool:
        """Return whether a step can follow those that the epilogue has."""
        taken = set(self.steps) | (set() if self.shortcut is None else {'shortcut'})
        return not taken & set(STEPS[STEPS.index(step) :])


@dataclass
class Graph:
    """A network.

    Attributes:
        nodes (list[Node]): Operations in order. Map 0 is the image.
        outputs (dict[str, int]): The maps that the network returns, by name.
        channels (int): Channels of the image.
        traced (dict[int, Shape]): Shapes of the maps of the image with which the model was traced.
    """

    nodes: list[Node]
    outputs: dict[str, int]
    channels: int = 3
    traced: dict[int, Shape] = field(default_factory=dict)

    def readers(self, value: int) -> list[Node]:
        """Return the nodes that read a map."""
        return [node for node in self.nodes if value in node.reads()]

    def shapes(self, height: int, width: int) -> dict[int, Shape]:
        """Return the shapes of all maps.

        Args:
            height (int): Height of the image in pixels.
            width (int): Its width.

        Raises:
            UsageError: if a map would be empty, or two maps that are added have other sizes.
        """
        shapes = {0: Shape(height, width, self.channels)}
        for node in self.nodes:
            shape = _shape(node, shapes)
            others = [shapes[i] for i in node.reads()]
            if node.kind == 'concatenate':
                fits = all(s[:2] == shape[:2] for s in others)
            else:
                fits = node.shortcut is None or shapes[node.shortcut] == shape
            if min(shape) < 1 or not fits:
                raise UsageError(
                    f'an image of {height}x{width} does not fit the network: {node.name} would make a map of '
                    f'{tuple(shape)} from {[tuple(s) for s in others]}. Choose a size that its strides divide'
                )
            shapes[node.output] = shape
        return shapes


def _shape(node: Node, shapes: dict[int, Shape]) -> Shape:
    first, options = shapes[node.inputs[0]], node.options
    if node.kind in LAYERS:
        convolution: Convolution = options['convolution']
        kernel = tuple(options['weight'].shape[2:])
        size = convolution.output_size(first.height, first.width, kernel)
        return Shape(*size, len(options['weight']))
    if node.kind in ('max_pool', 'average_pool'):
        rows, columns = (
            _pooled(size, *parts)
            for size, *parts in zip(
                first[:2],
                options['kernel'],
                options['stride'],
                options['padding'],
                (options['ceil_mode'],) * 2,
                strict=True,
            )
        )
        return Shape(rows, columns, first.channels)
    if node.kind == 'global_average':
        return Shape(1, 1, first.channels)
    if node.kind == 'upsample':
        if factor := options.get('factor'):
            return Shape(first.height * factor, first.width * factor, first.channels)
        return Shape(*shapes[node.inputs[1]][:2], first.channels)
    if node.kind == 'concatenate':
        return Shape(*first[:2], sum(shapes[i].channels for i in node.inputs))
    if node.kind == 'slice':
        return Shape(*first[:2], options['channels'])
    return first


def _pooled(size: int, kernel: int, stride: int, padding: int, ceil_mode: bool) -> int:
    rest = size + 2 * padding - kernel + (stride - 1 if ceil_mode else 0)
    out = rest // stride + 1
    # a window must begin within the map or its first border
    return out - 1 if ceil_mode and (out - 1) * stride >= size + padding else out
