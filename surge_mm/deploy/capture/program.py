"""What all replays of a recorded network share: its calls, the places of its memory, and its outputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves

from surge_mm.deploy.arena import Life, places
from surge_mm.deploy.capture.fusion import fuse_operators
from surge_mm.deploy.capture.recorder import (
    CONSTANT,
    KEPT,
    WORKSPACE,
    Call,
    NotCapturedError,
    Operator,
    Part,
    Recorder,
)
from surge_mm.deploy.capture.sign_handing import hand_signs
from surge_mm.deploy.cpu.threads import address_of, gnu_openmp


class Program:
    """A recorded network, for inputs of one shape.

    Blocks that are only used within the network share an arena. The others are *fresh*, new in each replay: the input,
    results of operators, and outputs.

    Args:
        recorder (Recorder): The recording.
        result (Any): What the network returned.

    Attributes:
        calls (list[Call | Operator]): What is replayed.
        sources (list[tuple[Tensor, int]]): As those of the recorder.
        constants (list[tuple[Tensor, int]]): Tensors of the model that passes read, and their addresses.
        places (dict[int, int]): First byte in the arena, by block.
        arena_bytes (int): Size of the arena.
        content (dict[int, Tensor]): Bytes that a block has from the start, by block.
        fresh (dict[int, Part]): The whole of each fresh block.
        last_uses (list[list[int]]): For each call, the fresh blocks that nothing uses after it.
        leaves (list[Part | Any]): What the network returns, without the tuples, lists and dictionaries around it.
        structure (TreeSpec): These.
        outputs (list[int]): Blocks that are allocated for compiled loops to write outputs into.
        parallel (int): Address of ``GOMP_parallel``; 0 if no call runs on several threads.

    Raises:
        NotCapturedError: if the recording cannot be replayed.
    """

    def __init__(self, recorder: Recorder, result: Any) -> None:
        blocks = recorder.blocks
        self.calls, self.sources = recorder.calls, recorder.sources
        leaves, self.structure = tree_flatten(result)
        self.leaves = [recorder.part(x) if torch.is_tensor(x) else x for x in leaves]
        returned = {part.block for part in self.leaves if isinstance(part, Part)}
        self.constants = fuse_operators(self.calls, blocks, returned)
        hand_signs(self.calls, blocks, returned)
        if any(blocks[index].kind == KEPT for index in returned):
            raise NotCapturedError('an output whose memory is allocated with content')
        self.outputs = [i for i in sorted(returned) if blocks[i].kind == WORKSPACE]
        end = len(self.calls)
        lives = {
            index: Life(block.nbytes, 0, end)
            if block.kind == KEPT
            else Life(block.nbytes, block.uses[0], block.uses[-1])
            for index, block in enumerate(blocks)
            if block.kind in (WORKSPACE, KEPT) and block.uses and index not in self.outputs
        }
        starts, self.arena_bytes = places(list(lives.values()))
        self.places = dict(zip(lives, starts, strict=True))
        self.content = {
            index: all_bytes(blocks[index].tensor).clone()
            for index in lives
            if blocks[index].kind == KEPT
        }
        self.fresh = {
            index: Part.of(index, block.tensor)
            for index, block in enumerate(blocks)
            if block.kind != CONSTANT and index not in self.places
        }
        self.last_uses: list[list[int]] = [[] for _ in self.calls]
        for index in self.fresh.keys() - returned:
            if blocks[index].uses:
                self.last_uses[blocks[index].uses[-1]].append(index)
        self._check_views()
        self.parallel = self._parallel()

    def _check_views(self) -> None:
        parts = list(self.leaves)
        for call in self.calls:
            if isinstance(call, Operator):
                parts += tree_leaves((call.args, call.kwargs))
        for part in parts:
            own = self.fresh.get(part.block) if isinstance(part, Part) else None
            if own is not None and part.dtype != own.dtype:
                raise NotCapturedError(f'a view of {own.dtype} as {part.dtype}')

    def _parallel(self) -> int:
        if all(call.threads == 1 for call in self.calls if isinstance(call, Call)):
            return 0
        found = gnu_openmp()
        if found is None:
            raise NotCapturedError('several threads without GNU OpenMP')
        return address_of(found[0])


def all_bytes(tensor: Tensor) -> Tensor:
    """Return the memory of a tensor, uint8, of one dimension."""
    return torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
