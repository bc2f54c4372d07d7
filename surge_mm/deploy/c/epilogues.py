"""Epilogues of layers: they take up the steps that follow, for fewer passes over the maps.

Where the signs of a binary layer alone are read, they are those of an integer, and not of the steps after the sums. All
steps after a sum of signs S are monotone, unless a slope is negative, so the sign of the output changes once at most:

    sign(steps(S) + shift) = sign(factor S + term)        factor: 1 or -1, term: an integer

for each output channel. Both numbers are found by computing the steps for every possible S, so that the signs are equal
to the bit.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from surge_mm.deploy.c.graph import LAYERS, STEPS, Graph, Node
from surge_mm.deploy.c.plan import sign_readers
from surge_mm.deploy.packing.epilogue import Epilogue, sign_changes

SUMS = ('a1', 'p', 'c')
"""Steps that add a number per channel."""


def fuse(graph: Graph) -> None:
    """Merge each ``'pointwise'`` node into the layer or the pointwise node that makes its input, in place.

    The steps and their order stay the same.

    Args:
        graph (Graph): The network.
    """
    makers = {node.output: node for node in graph.nodes}
    for node in list(graph.nodes):
        if node.kind != 'pointwise':
            continue
        for value in node.reads():
            maker = makers.get(value)
            if maker and _only_reader(graph, value) and _merge(maker, node, value):
                graph.nodes.remove(maker)
                graph.nodes[graph.nodes.index(node)] = maker
                makers[maker.output] = maker
                break


def _only_reader(graph: Graph, value: int) -> bool:
    reads = [v for node in graph.nodes for v in node.reads()]
    return reads.count(value) == 1 and value not in graph.outputs.values()


def _merge(maker: Node, node: Node, value: int) -> bool:
    """Append the steps of a pointwise node to those of the node that makes its input, if their order allows it."""
    if maker.kind not in (*LAYERS, 'pointwise'):
        return False
    shortcut, steps = node.shortcut, dict(node.steps)
    if value == node.shortcut:  # a sum of two maps, the second of which this node makes
        if any(STEPS.index(step) < STEPS.index('shortcut') for step in steps):
            return False
        shortcut = node.inputs[0]
    if list(steps) == ['a1'] and shortcut is None:
        place = next((step for step in SUMS if maker.can_add(step)), None)
        if place is None:
            return False
        steps = {place: steps['a1']}
    order = [*steps, *([] if shortcut is None else ['shortcut'])]
    if not all(maker.can_add(step) for step in order):
        return False
    maker.steps |= steps
    maker.shortcut = maker.shortcut if shortcut is None else shortcut
    maker.output = node.output
    return True


def with_thresholds(graph: Graph) -> Graph:
    """Return a network with thresholds in place of the steps of all layers whose signs alone are read.

    The steps ``m1`` and ``a1`` of such a layer are the factor and the term, and its option ``thresholds`` is True.

    Args:
        graph (Graph): The network, which stays as it is.
    """
    return replace(graph, nodes=[_with_thresholds(graph, node) for node in graph.nodes])


def _with_thresholds(graph: Graph, node: Node) -> Node:
    readers = graph.readers(node.output)
    by_signs = sign_readers(graph, node.output)
    gives_signs_alone = (
        node.kind == 'binary'
        and node.shortcut is None
        and node.output not in graph.outputs.values()
        and len(by_signs) == len(readers) > 0
        and all(reader.shortcut != node.output for reader in readers)
    )
    if not gives_signs_alone:
        return node
    weight = node.options['weight']
    found = thresholds(node.steps, by_signs[0].options['shift'], len(weight), weight[0].size)
    if found is None:
        return node
    steps = dict(zip(('m1', 'a1'), found, strict=True))
    return replace(node, steps=steps, options=node.options | {'thresholds': True})


def thresholds(
    steps: dict[str, np.ndarray], shift: np.ndarray | None, channels: int, largest: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return factor and term of each output channel, or None if a sign changes more than once.

    Args:
        steps (dict[str, np.ndarray]): Steps of the epilogue, ``(channels,)`` each.
        shift (np.ndarray, optional): Numbers that are added before the sign, ``(channels,)``.
        channels (int): Output channels.
        largest (int): Number of products of a sum, which is its largest value.

    Returns:
        tuple[np.ndarray, np.ndarray] | None: ``(channels,)`` each, float32.
    """
    epilogue = Epilogue(channels)
    for name, values in steps.items():
        epilogue.set(name, torch.from_numpy(values))
    sums = torch.arange(-largest, largest + 1, dtype=torch.float32)
    with torch.no_grad():
        out = epilogue(sums.expand(1, channels, 1, -1).contiguous())[0, :, 0]
    if shift is not None:
        out = out + torch.from_numpy(shift)[:, None]
    changes = sign_changes(out)
    if changes is None:
        return None
    falls, n_negative = changes
    factor, term = torch.where(falls, -1, 1), largest - n_negative
    return factor.float().numpy(), term.float().numpy()
