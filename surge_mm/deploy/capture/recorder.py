"""Recording of what a network computes: calls of compiled loops by their addresses, and operators of PyTorch.

Each block of memory that the network allocates is a :class:`Block`. A tensor is a :class:`Part` of a block, so views
are not recorded. What does not depend on the input is a constant, and computed once.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from surge_mm.deploy.cpu.threads import recording
from surge_mm.utils.errors import UsageError

GIVEN, WORKSPACE, MADE, KEPT, CONSTANT = 'given', 'workspace', 'made', 'kept', 'constant'
"""Kinds of blocks: the input; allocated without content; the result of an operator; allocated with content, of which
compiled loops write a part; and never written."""
EMPTY = {
    torch.ops.aten.empty.memory_format,
    torch.ops.aten.empty_strided.default,
    torch.ops.aten.empty_like.default,
    torch.ops.aten.new_empty.default,
    torch.ops.aten.new_empty_strided.default,
}
"""Operators that allocate memory without content."""
UNSUITABLE = {
    torch.Tag.data_dependent_output,
    torch.Tag.dynamic_output_shape,
    torch.Tag.nondeterministic_seeded,
}
"""Tags of operators whose result cannot be replayed."""


class NotCapturedError(UsageError):
    """A network that cannot be replayed."""


@dataclass
class Block:
    """Memory that a network uses.

    Attributes:
        kind (str): One of the kinds above.
        tensor (Tensor): The tensor whose memory it is, kept so that no other one gets its address.
        uses (list[int]): Indices of the calls that use it.
    """

    kind: str
    tensor: Tensor
    uses: list[int] = field(default_factory=list)

    @property
    def address(self) -> int:
        """Address of its first byte."""
        return self.tensor.untyped_storage().data_ptr()

    @property
    def nbytes(self) -> int:
        """Its size."""
        return self.tensor.untyped_storage().nbytes()


@dataclass(frozen=True)
class Part:
    """A tensor in a block.

    Attributes:
        block (int): Index of the block.
        dtype (torch.dtype): Its dtype.
        size (tuple[int, ...]): Its shape.
        stride (tuple[int, ...]): Its strides.
        offset (int): First element, in elements from the beginning of the block.
    """

    block: int
    dtype: torch.dtype
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    @classmethod
    def of(cls, block: int, tensor: Tensor) -> Part:
        """Return the part that a tensor is.

        Args:
            block (int): Index of its block.
            tensor (Tensor): The tensor.
        """
        size, offset = tuple(tensor.shape), int(tensor.storage_offset())
        return cls(block, tensor.dtype, size, tensor.stride(), offset)


class Call(NamedTuple):
    """Call of a compiled loop.

    Attributes:
        function (int): Address of the C function.
        threads (int): Number of threads.
        content (tuple[int, ...]): Fields of its job.
        pointers (list[tuple[int, int, int]]): Index of a field, of the block in which its address is, and bytes from
            the beginning of the block.
        owner (object): Holder of the other memory that the job has addresses of.
    """

    function: int
    threads: int
    content: tuple[int, ...]
    pointers: list[tuple[int, int, int]]
    owner: object


class Operator(NamedTuple):
    """Call of an operator of PyTorch.

    Attributes:
        function (Callable): The operator.
        args (tuple): Its arguments, with a :class:`Part` in place of each tensor that is no constant.
        kwargs (dict): Likewise.
        made (list[tuple[int, int]]): Index of a tensor among the results, and of the block that it makes.
    """

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    made: list[tuple[int, int]]


class Recorder(TorchDispatchMode):
    """Record what this thread computes while it is entered.

    Args:
        given (Tensor): The input of the network.

    Attributes:
        blocks (list[Block]): All memory that was allocated, the input first.
        calls (list[Call | Operator]): What is to be replayed.
        sources (list[tuple[Tensor, int]]): Tensors of the model from which constants were computed, and their versions.
    """

    def __init__(self, given: Tensor) -> None:
        super().__init__()
        self.blocks = [Block(GIVEN, given)]
        self.calls: list[Call | Operator] = []
        self.sources: list[tuple[Tensor, int]] = []
        self._by_address = [(self.blocks[0].address, 0)]

    def __enter__(self) -> Recorder:
        recording.recorder = self
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        recording.recorder = None
        super().__exit__(*error)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True imports torch.compile, which takes 86 MB

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Run an operator, and record it if its result depends on the input."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func in EMPTY:
            self._add(WORKSPACE, result)
            return result
        given = [t for t in tree_leaves((args, kwargs)) if torch.is_tensor(t)]
        results = tree_leaves(result)
        if not any(self._is_variable(t) for t in given):
            self._add_constants(func, given, written(func, args, kwargs), results)
            return result
        self._check(func, written(func, args, kwargs), results)
        # the parts first: an operator may change the shape of an argument
        parts: Any = tree_map(self._part, (tuple(args), dict(kwargs)))
        made = []
        for i, tensor in enumerate(results):
            if torch.is_tensor(tensor) and self._index(tensor) is None:
                made.append((i, self._add(MADE, tensor)))
        if made or func._schema.is_mutable:
            self.calls.append(Operator(func, parts[0], parts[1], made))
            self._use(part.block for part in tree_leaves(parts) if isinstance(part, Part))
            self._use(block for _, block in made)
        return result

    def record_call(self, function: int, job: Any, threads: int, owner: object) -> None:
        """Record a call of a compiled loop, before it runs.

        Args:
            function (int): Address of the C function.
            job (ctypes.Array): Its job, of int64.
            threads (int): Number of threads.
            owner (object): Holder of memory that the job has addresses of.
        """
        pointers = []
        for i, value in enumerate(job):
            index = self._at(value)
            if index is None:
                continue
            block = self.blocks[index]
            if block.kind == CONSTANT:
                block.kind = KEPT
            pointers.append((i, index, value - block.address))
        self.calls.append(Call(function, threads, tuple(job), pointers, owner))
        self._use(index for _, index, _ in pointers)

    def part(self, tensor: Tensor) -> Part | Tensor:
        """Return the part of a block that a tensor is, or the tensor itself if it is a constant.

        Args:
            tensor (Tensor): Result of the network, or an argument.
        """
        index = self._index(tensor)
        if index is None or self.blocks[index].kind == CONSTANT:
            return tensor
        return Part.of(index, tensor)

    def _part(self, value: Any) -> Any:
        return self.part(value) if torch.is_tensor(value) else value

    def _add(self, kind: str, tensor: Tensor) -> int:
        if tensor.device.type != 'cpu' or tensor.layout != torch.strided:
            raise NotCapturedError(f'a tensor on {tensor.device}, {tensor.layout}')
        self.blocks.append(Block(kind, tensor))
        index = len(self.blocks) - 1
        if self.blocks[index].nbytes:
            bisect.insort(self._by_address, (self.blocks[index].address, index))
        return index

    def _at(self, address: int) -> int | None:
        """Return the index of the block in which an address is."""
        place = bisect.bisect_right(self._by_address, (address, len(self.blocks))) - 1
        if place < 0:
            return None
        first, index = self._by_address[place]
        return index if address < first + self.blocks[index].nbytes else None

    def _index(self, tensor: Tensor) -> int | None:
        """Return the index of the block that a tensor is in. Those of oneDNN have no address, and are constants."""
        is_plain = tensor.layout == torch.strided
        return self._at(tensor.untyped_storage().data_ptr()) if is_plain else None

    def _is_variable(self, tensor: Tensor) -> bool:
        index = self._index(tensor)
        return index is not None and self.blocks[index].kind != CONSTANT

    def _use(self, blocks: Any) -> None:
        for block in blocks:
            self.blocks[block].uses.append(len(self.calls) - 1)

    def _check(self, func: Any, written: list[Tensor], results: list[Any]) -> None:
        """Raise an error for an operator that cannot be replayed."""
        if UNSUITABLE & set(func.tags):
            raise NotCapturedError(f'{func}, whose result depends on the values of its input')
        if any(value is not None and not torch.is_tensor(value) for value in results):
            raise NotCapturedError(f'{func}, which returns a number')
        if not all(map(self._is_variable, written)):
            raise NotCapturedError(f'{func}, which may change a tensor of the model')

    def _add_constants(
        self, func: Any, given: list[Tensor], written: list[Tensor], results: list[Any]
    ) -> None:
        """Note results that do not depend on the input, and the tensors of the model that they depend on."""
        own = [tensor for tensor in given if self._index(tensor) is None]
        if any(self._index(tensor) is None for tensor in written):
            raise NotCapturedError(f'{func}, which changes a tensor of the model')
        plain = [t for t in own if t.layout == torch.strided]
        storages = {tensor.untyped_storage().data_ptr() for tensor in plain}
        made = [
            t
            for t in results
            if torch.is_tensor(t)
            and t.layout == torch.strided
            and t.untyped_storage().data_ptr() not in storages
        ]
        for tensor in made:
            if self._index(tensor) is None:
                self._add(CONSTANT, tensor)
        if made or not all(map(torch.is_tensor, results)):
            if any(tensor.is_inference() for tensor in own):
                raise NotCapturedError(f'{func} of a tensor that was made in inference mode')
            self.sources += [(tensor, tensor._version) for tensor in own]


def written(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Tensor]:
    """Return the tensors among the arguments of an operator that it changes.

    Args:
        func (OpOverload): The operator.
        args (Sequence[Any]): Its arguments by position.
        kwargs (dict[str, Any]): Its arguments by name.
    """
    if not func._schema.is_mutable:
        return []
    given = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | kwargs
    changed = [a.name for a in func._schema.arguments if a.alias_info and a.alias_info.is_write]
    return [t for t in tree_leaves([given.get(name) for name in changed]) if torch.is_tensor(t)]
