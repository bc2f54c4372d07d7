"""Loops in LLVM IR.

The parameter ``b`` is the ``IRBuilder``, and arguments without a Python type are its values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from surge_mm.deploy.cpu.codegen.vectors import I64


def loop(
    b: Any,
    start: Any,
    end: Any,
    step: int,
    values: list[Any],
    body: Callable[[Any, list[Any]], list[Any]],
) -> list[Any]:
    """Return the values after ``values = body(i, values)`` for i = start, start + step, ... below end, or once.

    Args:
        b (IRBuilder): The builder.
        start (Value): The first i, int64.
        end (Value): The end, int64.
        step (int): From an i to the next one.
        values (list[Value]): The values before.
        body (Callable): Returns the values after an iteration.
    """
    before = b.block
    inside, done = b.append_basic_block('loop'), b.append_basic_block('done')
    b.branch(inside)

    b.position_at_end(inside)
    i, here = b.phi(I64), [b.phi(value.type) for value in values]
    after = body(i, here)
    following, last = b.add(i, I64(step)), b.block
    for phi, first, later in zip([i, *here], [start, *values], [following, *after], strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(later, last)
    b.cbranch(b.icmp_signed('<', following, end), inside, done)

    b.position_at_end(done)
    return after
