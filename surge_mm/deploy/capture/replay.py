"""Replay of a program: one native call for each run of compiled loops between two operators of PyTorch."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map, tree_unflatten

from surge_mm.deploy.arena import ALIGNMENT
from surge_mm.deploy.capture.program import Program
from surge_mm.deploy.capture.recorder import Call, Operator, Part

WORD = 8
"""Bytes of a field of a job."""
Step = Callable[[], None]


class Replay:
    """A program with memory of its own. One thread at a time may run it.

    Args:
        program (Program): The program.
    """

    @torch.inference_mode(False)  # tensors that may be written in either mode
    def __init__(self, program: Program) -> None:
        from surge_mm.deploy.capture.run_calls import run_calls

        self._run_calls = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(run_calls.address)
        self.program = program
        self._arena = torch.zeros(program.arena_bytes + 2 * ALIGNMENT, dtype=torch.uint8)
        self._skipped = -self._arena.data_ptr() % ALIGNMENT
        for index, content in program.content.items():
            first = self._skipped + program.places[index]
            self._arena[first : first + len(content)] = content
        self._fresh: dict[int, Tensor] = {}
        self._patches: dict[int, list[tuple[int, int]]] = {index: [] for index in program.fresh}
        self._allocations = [(i, self._allocation(program.fresh[i])) for i in program.outputs]
        self._results = [
            leaf.clone if torch.is_tensor(leaf) else self._getter(leaf) for leaf in program.leaves
        ]
        self._copy_jobs()
        self._steps = self._make_steps()

    def run(self, given: Tensor) -> Any:
        """Return what the network returns for an input of the shape, dtype and strides of the program.

        Args:
            given (Tensor): The input.
        """
        ctypes.memmove(self._jobs, self._template, ctypes.sizeof(self._jobs))
        self._set(0, given)
        for block, allocate in self._allocations:
            self._set(block, allocate())
        for step in self._steps:
            step()
        result = tree_unflatten([get() for get in self._results], self.program.structure)
        self._fresh.clear()
        return result

    def _copy_jobs(self) -> None:
        """Lay out the jobs, with the addresses of the arena."""
        program = self.program
        content: list[int] = []
        base = self._arena.data_ptr() + self._skipped
        self._job_places: list[int] = []
        for call in program.calls:
            self._job_places.append(len(content))
            if not isinstance(call, Call):
                continue
            fields = list(call.content)
            for i, block, delta in call.pointers:
                if block in program.places:
                    fields[i] = base + program.places[block] + delta
                else:
                    own = program.fresh[block]
                    delta -= own.offset * own.dtype.itemsize
                    self._patches[block].append((len(content) + i, delta))
            content += fields
        kind = ctypes.c_int64 * len(content)
        self._jobs, self._template = kind(*content), kind(*content)

    def _make_steps(self) -> list[Step]:
        steps: list[Step] = []
        waiting: list[tuple[int, int, int]] = []

        def flush() -> None:
            if waiting:
                steps.append(self._native_step(waiting))
                waiting.clear()

        jobs, program = ctypes.addressof(self._jobs), self.program
        unused: list[int] = []
        for call, place, last in zip(
            program.calls, self._job_places, program.last_uses, strict=True
        ):
            unused += last
            if isinstance(call, Call):
                waiting.append((jobs + place * WORD, call.function, call.threads))
                continue
            flush()
            steps.append(self._operator_step(call))
            if unused:  # memory is released here, so that a native step is not divided
                steps.append(partial(self._release, tuple(unused)))
                unused.clear()
        flush()
        return steps

    def _release(self, blocks: tuple[int, ...]) -> None:
        for block in blocks:
            del self._fresh[block]

    def _native_step(self, calls: list[tuple[int, int, int]]) -> Step:
        numbers = [len(calls), self.program.parallel, *(n for call in calls for n in call)]
        table = (ctypes.c_int64 * len(numbers))(*numbers)
        run = self._run_calls
        return lambda: run(table)

    def _operator_step(self, call: Operator) -> Step:
        function, made = call.function, call.made
        args, kwargs = tree_map(self._if_in_arena, (call.args, call.kwargs))
        varying = [(i, self._getter(x)) for i, x in enumerate(args) if isinstance(x, Part)]
        nested = [x for x in (*args, *kwargs.values()) if not isinstance(x, Part)]
        if any(isinstance(x, Part) for x in (*tree_leaves(nested), *kwargs.values())):

            def run() -> Any:
                own_args, own_kwargs = tree_map(self._resolve, (args, kwargs))
                return function(*own_args, **own_kwargs)

        else:

            def run() -> Any:
                own = list(args)
                for i, get in varying:
                    own[i] = get()
                return function(*own, **kwargs)

        if len(made) == 1 and not made[0][0]:
            block = made[0][1]

            def step() -> None:
                result = run()
                self._set(block, result if torch.is_tensor(result) else tree_leaves(result)[0])

        else:

            def step() -> None:
                results = tree_leaves(run())
                for i, block in made:
                    self._set(block, results[i])

        return step

    def _set(self, block: int, tensor: Tensor) -> None:
        """Set a fresh tensor, and its address in the jobs."""
        self._fresh[block] = tensor
        patches = self._patches[block]
        if patches:
            address, jobs = tensor.data_ptr(), self._jobs
            for i, delta in patches:
                jobs[i] = address + delta

    @staticmethod
    def _allocation(part: Part) -> Callable[[], Tensor]:
        return partial(torch.empty_strided, part.size, part.stride, dtype=part.dtype)

    def _resolve(self, value: Any) -> Any:
        return self._getter(value)()

    def _if_in_arena(self, value: Any) -> Any:
        in_arena = isinstance(value, Part) and value.block in self.program.places
        return self._tensor_in_arena(value) if in_arena else value

    def _getter(self, value: Any) -> Callable[[], Any]:
        """Return a function that returns the tensor of a part of a fresh block, or another value as it is."""
        if not isinstance(value, Part):
            return lambda: value
        block, fresh, own = value.block, self._fresh, self.program.fresh[value.block]
        if value == own:
            return lambda: fresh[block]
        size, stride, start = value.size, value.stride, value.offset - own.offset

        def view() -> Tensor:
            whole = fresh[block]
            return whole.as_strided(size, stride, whole.storage_offset() + start)

        return view

    def _tensor_in_arena(self, part: Part) -> Tensor:
        first = self._skipped + self.program.places[part.block]
        own = self._arena[first:]
        typed = own[: len(own) // part.dtype.itemsize * part.dtype.itemsize].view(part.dtype)
        return typed.as_strided(part.size, part.stride, typed.storage_offset() + part.offset)
