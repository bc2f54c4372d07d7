"""Sign bits that packed layers of a recorded network hand to one another, to the bit those that the reader would make.

Modules of the hosts call their layers one after another with real values, whose signs each layer takes. In a recording
it is known which layer wrote them: it makes the signs as well, while the values are in registers, and does not write
values that nothing else reads.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, TypeGuard

import torch

from surge_mm.deploy.capture.recorder import WORKSPACE, Block, Call, Operator
from surge_mm.deploy.cpu.backend import kernels
from surge_mm.deploy.cpu.job import Job, QuantizationPass
from surge_mm.deploy.cpu.plan import Plan

LAYER, X, WORDS, SHORTCUT, OUT, SIGNS = (
    Job._fields.index(name) for name in ('layer', 'x', 'words', 'shortcut', 'out', 'signs')
)
PASS_OUT = QuantizationPass._fields.index('out')
"""The same field of all passes."""
WITHOUT_PACKING = {Job._fields.index(name): 0 for name in ('packed_parts', 'pixels', 'x')}
"""Fields of a job whose signs are given."""


class Handed(NamedTuple):
    """Signs that a layer makes of its output.

    Attributes:
        reader (Plan): The layer for which they are.
        words (int): Block with the words.
    """

    reader: Plan
    words: int


def hand_signs(
    calls: list[Call | Operator], blocks: list[Block], returned: Collection[int]
) -> None:
    """Let layers make the signs for those that read their output.

    Args:
        calls (list[Call | Operator]): The calls of a recording, changed in place.
        blocks (list[Block]): All memory of the recording; uses are changed in place.
        returned (Collection[int]): Indices of the blocks with an output of the network.
    """
    handed: dict[int, Handed] = {}
    for index, call in enumerate(calls):
        values = _block(call, X) if _is_layer(call) else None
        if values is None or not _is_output_of_layer(values, index, calls, blocks):
            continue
        writer_index = blocks[values].uses[0]
        writer = calls[writer_index]
        assert isinstance(call, Call) and isinstance(writer, Call)
        words = _block(call, WORDS)
        if words is None or blocks[words].uses != [index]:
            continue
        if values not in handed:
            plan = _writing(writer, call)
            if plan is None or _block(writer, SIGNS) is not None:
                continue
            handed[values] = Handed(_plan(call), words)
            calls[writer_index] = _changed(writer, {LAYER: plan.address}, plan, {SIGNS: words})
            blocks[words].uses.insert(0, writer_index)
        elif not _reads_the_same(handed[values].reader, _plan(call)):
            continue
        else:
            blocks[words].uses.clear()
            words = handed[values].words
            blocks[words].uses.append(index)
        calls[index] = reader = _changed(call, WITHOUT_PACKING, call.owner, {X: None, WORDS: words})
        if not any(block == values for _, block, _ in reader.pointers):
            blocks[values].uses = [i for i in blocks[values].uses if i != index]
        if blocks[values].uses == [writer_index] and values not in returned:
            blocks[values].uses.clear()
            calls[writer_index] = _without_values(calls[writer_index])


def _without_values(writer: Call | Operator) -> Call:
    """Return the call of a layer that makes signs alone, by thresholds of its counts unless a shortcut is added."""
    assert isinstance(writer, Call)
    if not writer.content[SHORTCUT]:
        _plan(writer).use_thresholds()
    return _changed(writer, {OUT: 0}, writer.owner, {OUT: None})


def _is_layer(call: Call | Operator) -> TypeGuard[Call]:
    return isinstance(call, Call) and call.function == kernels().run_parts.address


def _block(call: Call, field: int) -> int | None:
    """Return the block whose first byte a field of a job has the address of."""
    found = (block for i, block, delta in call.pointers if i == field and not delta)
    return next(found, None)


def _is_output_of_layer(
    values: int, index: int, calls: list[Call | Operator], blocks: list[Block]
) -> bool:
    """Return whether a layer writes a block, and no other call up to ``index`` does."""
    before = [calls[i] for i in blocks[values].uses if i <= index]
    if blocks[values].kind != WORKSPACE or not _is_layer(before[0]):
        return False
    return _block(before[0], OUT) == values and not any(_may_write(c, values) for c in before[1:])


def _may_write(call: Call | Operator, block: int) -> bool:
    if isinstance(call, Operator):
        return call.function._schema.is_mutable
    out = OUT if _is_layer(call) else PASS_OUT
    return any((field, own) == (out, block) for field, own, _ in call.pointers)


def _writing(writer: Call, reader: Call) -> Plan | None:
    """Return the plan of a layer that makes the signs for another one, or None if it cannot.

    The other one may read a part of the values, with the same address.
    """
    own, following = _plan(writer), _plan(reader)
    images = Job(*writer.content[: len(Job._fields)]).units // own.units
    read = Job(*reader.content[: len(Job._fields)]).pixels // following.pixels
    is_whole = (images, own.size) == (read, following.input_size)
    if not is_whole or not own.layer.can_write_signs_of(following.layer):
        return None
    return own.layer.plan(own.input_size, following.layer)


def _plan(call: Call) -> Plan:
    assert isinstance(call.owner, Plan)
    return call.owner


def _reads_the_same(one: Plan, other: Plan) -> bool:
    """Return whether two layers read the same signs of the same values."""
    a, b = one.layer, other.layer
    same = (a.convolution, a.kernel_size, a.pad_value, a.channels) == (
        b.convolution,
        b.kernel_size,
        b.pad_value,
        b.channels,
    )
    # as bits: the sign of -0.0 + shift depends on that of a shift of 0
    shifts = (layer.shift.view(torch.int32) for layer in (a, b))
    return same and one.input_size == other.input_size and torch.equal(*shifts)


def _changed(
    call: Call, fields: dict[int, int], owner: object, pointers: dict[int, int | None]
) -> Call:
    """Return a call with other fields, and with addresses of the first byte of other blocks, or without them."""
    content = [fields.get(i, value) for i, value in enumerate(call.content)]
    kept = [pointer for pointer in call.pointers if pointer[0] not in pointers]
    new = [(i, block, 0) for i, block in pointers.items() if block is not None]
    return call._replace(content=tuple(content), pointers=kept + new, owner=owner)
