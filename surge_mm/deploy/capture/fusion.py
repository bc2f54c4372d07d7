"""Operators of PyTorch in a recorded network, replaced by compiled passes with the same results, to the bit.

Between compiled loops, most of the time of a small operator is the overhead of its call. A pass is one more call of a
native run, with its result in the arena. Replaced are, in float32: multiplications by a constant, clamp and ReLU, a
whole sequence of them by one pass; nearest upsampling with the addition behind it; and average pools without padding.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.modules.utils import _pair

from surge_mm.deploy.capture.pass_calls import average, elementwise, upsampled_sum
from surge_mm.deploy.capture.recorder import MADE, WORKSPACE, Block, Call, Operator, Part
from surge_mm.deploy.cpu.operator_job import AT_LEAST, AT_MOST, MULTIPLY

aten = torch.ops.aten
MULTIPLICATIONS = {aten.mul.Tensor, aten.mul_.Tensor}
CLAMPS = {aten.clamp.default, aten.clamp_.default}
RELUS = {aten.relu.default, aten.relu_.default}


class Fused(NamedTuple):
    """A pass in place of operators in sequence.

    Attributes:
        call (Call): The pass.
        length (int): Number of operators.
        target (Part): The result of the last one.
        constants (list[Tensor]): Tensors of the model that the pass reads.
    """

    call: Call
    length: int
    target: Part
    constants: list[Tensor]


class Step(NamedTuple):
    """An elementwise operator.

    Attributes:
        source (Part): Its argument.
        target (Part): Its result, the same part if the operator is in place.
        actions (list[tuple[int, Any]]): Actions of an :class:`.ElementwisePass`, each with a number or a tensor.
    """

    source: Part
    target: Part
    actions: list[tuple[int, Any]]


class Recorded(NamedTuple):
    """What was recorded.

    Attributes:
        calls (list[Call | Operator]): The calls.
        blocks (list[Block]): All memory.
        returned (Collection[int]): Indices of the blocks with an output of the network.
    """

    calls: list[Call | Operator]
    blocks: list[Block]
    returned: Collection[int]

    def operator(self, index: int, functions: Collection[Any]) -> Operator | None:
        """Return the call at an index if it is one of these operators, else None.

        Args:
            index (int): The index, which may be beyond the last call.
            functions (Collection[OpOverload]): The operators.
        """
        call = self.calls[index] if index < len(self.calls) else None
        return call if isinstance(call, Operator) and call.function in functions else None

    def made(self, operator: Operator) -> Part:
        """Return the tensor that an operator makes."""
        block = operator.made[0][1]
        return Part.of(block, self.blocks[block].tensor)

    def is_inner(self, part: Part, first: int, last: int) -> bool:
        """Return whether the block of a part is made, and nothing else uses it, from one call to another.

        Args:
            part (Part): The part.
            first (int): Index of the first call.
            last (int): Index of the last call.
        """
        block = self.blocks[part.block]
        is_made = block.kind == MADE and part.block not in self.returned
        return is_made and first <= block.uses[0] and block.uses[-1] <= last


def fuse_operators(
    calls: list[Call | Operator], blocks: list[Block], returned: Collection[int]
) -> list[tuple[Tensor, int]]:
    """Replace operators of a recording by passes.

    Args:
        calls (list[Call | Operator]): The calls, changed in place.
        blocks (list[Block]): All memory of the recording; kinds and uses are changed in place.
        returned (Collection[int]): Indices of the blocks with an output of the network.

    Returns:
        list[tuple[Tensor, int]]: Tensors of the model that the passes read, and their addresses.
    """
    recorded = Recorded(calls, blocks, returned)
    constants: list[Tensor] = []
    found: list[Call | Operator] = []
    places: list[int] = []  # index in the new list, by the old one
    while len(places) < len(calls):
        first = len(places)
        candidates = (fuse(recorded, first) for fuse in (_actions, _upsampled_sum, _average))
        fused = next(filter(None, candidates), None)
        if fused is None:
            places.append(len(found))
            found.append(calls[first])
            continue
        for operator in calls[first : first + fused.length]:
            _allocate(operator, fused.target, blocks)
        places += [len(found)] * fused.length
        found.append(fused.call)
        constants += fused.constants
    for block in blocks:
        block.uses = [places[index] for index in block.uses]
    calls[:] = found
    return [(tensor, tensor.data_ptr()) for tensor in constants]


def _allocate(operator: Any, target: Part, blocks: list[Block]) -> None:
    """Turn the result of a replaced operator into a workspace, or into memory without a use."""
    for _, index in operator.made:
        block = blocks[index]
        if index == target.block:
            block.kind = WORKSPACE
        else:
            block.uses.clear()


def _actions(recorded: Recorded, first: int) -> Fused | None:
    """Return a pass in place of elementwise operators."""
    steps: list[Step] = []
    while (step := _step(recorded, index := first + len(steps))) is not None:
        if steps:
            before = steps[-1].target
            is_last_use = step.target == before or recorded.is_inner(before, first, index)
            if step.source != before or not is_last_use:
                break
        steps.append(step)
    if not steps:
        return None
    actions = [action for step in steps for action in step.actions]
    held = [(action, _held(number)) for action, number in actions]
    target = steps[-1].target
    call = elementwise(steps[0].source, target, held)
    constants = [number for _, number in actions if torch.is_tensor(number)]
    return call and Fused(call, len(steps), target, constants)


def _step(recorded: Recorded, index: int) -> Step | None:
    operator = recorded.operator(index, MULTIPLICATIONS | CLAMPS | RELUS)
    if operator is None:
        return None
    given = _arguments(operator)
    source = given['self']
    actions: list[tuple[int, Any]]
    if operator.function in MULTIPLICATIONS:
        number = given['other']
        if not isinstance(source, Part):
            source, number = number, source
        actions = [(MULTIPLY, number)]
    else:
        is_relu = operator.function in RELUS
        low, high = (0, None) if is_relu else (given['min'], given['max'])
        bounds = ((AT_LEAST, low), (AT_MOST, high))
        actions = [(action, bound) for action, bound in bounds if bound is not None]
        if not clamp_keeps_zeros():
            return None
    target = recorded.made(operator) if operator.made else source
    if source.size != target.size or not all(_is_constant(number) for _, number in actions):
        return None
    return Step(source, target, actions)


@cache
def clamp_keeps_zeros() -> bool:
    """Return whether PyTorch keeps -0 at a bound of 0, and 0 at a bound of -0, on this CPU, as the pass does."""
    x = torch.tensor([0.0, -0.0]).repeat(64)
    clamped = (x.clamp(min=0.0), x.clamp(min=-0.0), x.clamp(max=0.0), x.clamp(max=-0.0))
    return all(torch.equal(y.signbit(), x.signbit()) for y in clamped)


def _is_constant(number: Any) -> bool:
    """Return whether a pass can compute with a number. With NaN, the bits of the result would depend on the CPU."""
    if torch.is_tensor(number):
        is_plain = number.device.type == 'cpu' and number.layout == torch.strided
        return is_plain and number.dtype == torch.float32 and number.numel() == 1
    return isinstance(number, (int, float)) and number == number


def _held(number: Any) -> Tensor:
    """Return a number as a tensor of float32. That of a tensor has its memory, so that changes in place are read."""
    return number.detach() if torch.is_tensor(number) else torch.tensor(number).float()


def _upsampled_sum(recorded: Recorded, first: int) -> Fused | None:
    """Return a pass in place of a nearest upsampling and an addition."""
    upsampling = recorded.operator(first, {aten.upsample_nearest2d.vec})
    addition = recorded.operator(first + 1, {aten.add.Tensor})
    if upsampling is None or addition is None or addition.kwargs:
        return None
    source, upsampled = upsampling.args[0], recorded.made(upsampling)
    others = [x for x in addition.args if x != upsampled]
    if len(others) != 1 or not isinstance(others[0], Part):
        return None
    target = recorded.made(addition)
    if upsampled.size != target.size or not recorded.is_inner(upsampled, first, first + 1):
        return None
    height, width = source.size[2:]
    indices = torch.arange(height * width, dtype=torch.float32).view(1, 1, height, width)
    read = upsampling.function(indices, *upsampling.args[1:], **upsampling.kwargs)[0, 0]
    call = upsampled_sum(source, others[0], target, read, addition.args[0] == upsampled)
    return call and Fused(call, 2, target, [])


def _average(recorded: Recorded, first: int) -> Fused | None:
    """Return a pass in place of an average pool."""
    operator = recorded.operator(first, {aten.avg_pool2d.default})
    if operator is None:
        return None
    given = _arguments(operator)
    size, step, padding = (_two(given[name]) for name in ('kernel_size', 'stride', 'padding'))
    if any(padding) or given['divisor_override'] is not None:
        return None
    target = recorded.made(operator)
    call = average(given['self'], target, size, step or size)
    return call and Fused(call, 1, target, [])


def _arguments(operator: Operator) -> dict[str, Any]:
    """Return the arguments of an operator by name, with its defaults."""
    arguments = operator.function._schema.arguments
    names = [argument.name for argument in arguments]
    defaults = {argument.name: argument.default_value for argument in arguments}
    return defaults | dict(zip(names, operator.args, strict=False)) | operator.kwargs


def _two(numbers: Any) -> list[int]:
    """Return the vertical and the horizontal number of an argument of a pool, or an empty list without one."""
    return (list(_pair(numbers)) * 2)[:2]
