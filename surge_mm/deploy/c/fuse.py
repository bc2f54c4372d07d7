"""Fewer passes over the maps: steps that follow a layer become part of its epilogue."""

from __future__ import annotations

from surge_mm.deploy.c.graph import LAYERS, STEPS, Graph, Node

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
