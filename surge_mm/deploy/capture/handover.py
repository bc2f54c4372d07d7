"""Signs handed from one packed layer of a recorded network to the next, in place of numbers.

A module that reads nothing but the output of another one, such as the next convolution of a head, packs the signs of
that output. In a recording it is seen which layer reads it first, so that the layer before can write the signs itself,
and, where nothing else reads the numbers, leave them out.
"""

from __future__ import annotations

from collections.abc import Collection

from surge_mm.deploy.capture.recorder import WORKSPACE, Block, Call, Operator
from surge_mm.deploy.cpu.job import Job
from surge_mm.deploy.cpu.plan import Plan

PIXELS, X, WORDS, SHORTCUT, OUT, SIGNS = map(
    Job._fields.index, ('pixels', 'x', 'words', 'shortcut', 'out', 'signs')
)
Calls = list[Call | Operator]


def hand_over_signs(calls: Calls, blocks: list[Block], returned: Collection[int]) -> None:
    """Change the calls of a recording, so that layers write the signs that the next one would pack.

    Args:
        calls (list[Call | Operator]): The calls, changed in place.
        blocks (list[Block]): All memory of the recording; its uses are changed in place.
        returned (Collection[int]): Indices of the blocks with an output of the network.
    """
    for second, reader in enumerate(calls):
        place = _place(reader, X)
        if place is None:
            continue
        block = blocks[place[0]]
        first = block.uses[0]
        writer = calls[first]
        # nothing may change the output in between
        if block.kind == WORKSPACE and block.uses[1] == second and _place(writer, OUT) == place:
            assert isinstance(writer, Call) and isinstance(reader, Call)
            if not _can_hand_over(writer, reader, block.nbytes):
                continue
            is_read = len(block.uses) > 2 or place[0] in returned or _place(reader, SHORTCUT)
            calls[first] = _with_signs(writer, reader, bool(is_read))
            calls[second] = _without(reader, X)._replace(
                content=_set(reader.content, x=0, packed_parts=0)
            )
            block.uses.remove(second)
            if not is_read:
                block.uses.clear()
            words = blocks[_place(reader, WORDS)[0]]  # type: ignore[index]
            words.uses.insert(0, first)


def _place(call: Call | Operator, field: int) -> tuple[int, int] | None:
    """Return the block and the byte in it of a tensor of a packed layer's call, or None without one."""
    if not (isinstance(call, Call) and isinstance(call.owner, Plan)):
        return None
    return next(((block, at) for i, block, at in call.pointers if i == field), None)


def _can_hand_over(writer: Call, reader: Call, nbytes: int) -> bool:
    before, after = writer.owner, reader.owner
    assert isinstance(before, Plan) and isinstance(after, Plan)
    return (
        _place(writer, SIGNS) is None
        and reader.content[PIXELS] * after.layer.channels * 4 == nbytes  # all images
        and before.size == after.input_size
        and before.layer.can_write_signs_of(after.layer)
    )


def _with_signs(writer: Call, reader: Call, values: bool) -> Call:
    """Return the call of a layer that also writes the signs for another one, or instead."""
    before, after = writer.owner, reader.owner
    assert isinstance(before, Plan) and isinstance(after, Plan)
    plan = before.layer.plan(before.input_size, after.layer)
    if not values:
        plan.use_thresholds()
        writer = _without(writer, OUT)
    words = _place(reader, WORDS)
    assert words is not None
    content = _set(writer.content, layer=plan.address, signs=reader.content[WORDS])
    if not values:
        content = _set(content, out=0)
    pointers = [*writer.pointers, (SIGNS, *words)]
    return writer._replace(content=content, pointers=pointers, owner=plan)


def _without(call: Call, field: int) -> Call:
    return call._replace(pointers=[pointer for pointer in call.pointers if pointer[0] != field])


def _set(content: tuple[int, ...], **fields: int) -> tuple[int, ...]:
    n = len(Job._fields)
    return (*Job(*content[:n])._replace(**fields), *content[n:])
