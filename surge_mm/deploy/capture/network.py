"""The network of a packed model without the modules around its operations: :class:`CapturedNetwork`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as global_hooks
from torch.utils._pytree import tree_flatten
from torch.utils.hooks import RemovableHandle

from surge_mm.deploy.capture.program import Program
from surge_mm.deploy.capture.recorder import NotCapturedError, Recorder
from surge_mm.deploy.capture.replay import Replay
from surge_mm.deploy.cpu.backend import can_run
from surge_mm.deploy.packing.prepared import PreparedModule
from surge_mm.deploy.packing.real_norms import NormPass
from surge_mm.layers.memory_format import is_own_hook
from surge_mm.utils.errors import UsageError
from surge_mm.utils.logging import log
from surge_mm.utils.modules import is_packed, raw_outputs

SIZES_KEPT = 8
"""Shapes of inputs for which a network keeps its operations."""
CALLS_TO_REPLACE = 30
"""Calls with a shape after which it takes the place of another one: a recording takes 20 to 40 ms, of a large network
more."""
MOST_COUNTED = 1000
"""Shapes whose calls are counted."""
MOST_PIXELS = 1 << 18
"""Pixels of all images of an input beyond which the modules are used: they take a small part of the time then."""


class CapturedNetwork:
    """Run the network of a packed model by its operations alone, with the same outputs, to the bit.

    The second input of a shape is computed by the modules, and what they compute is recorded. From then on, the
    operations are replayed without the modules, which takes less time for small images. The operations for
    :data:`SIZES_KEPT` shapes are kept; a further shape is recorded at its call number :data:`CALLS_TO_REPLACE`, in
    place of the one that was not used for longest. A recording is tried on noise, and used only if its outputs are
    those of the modules. The modules are always used for inputs of more than :data:`MOST_PIXELS` pixels, without packed
    layers, in autocast, where gradients are recorded, and where the operations depend on the values of the input, which
    is logged once.

    After ``load_state_dict`` or ``to`` of the model, the operations are recorded anew. While a module has a hook, the
    modules are used. Other changes of the model need a new ``CapturedNetwork``.

    Args:
        model (nn.Module): A packed model of MMDetection or MMPretrain, or another packed module of images.
        forward (Callable, optional): Function of the images that returns the outputs, tensors in tuples, lists and
            dictionaries. Defaults to None, for ``mode='tensor'`` of a host's model and the call of another module.

    Raises:
        UsageError: if the model is a two-stage detector, whose ``mode='tensor'`` needs more than images, and no
            ``forward`` is given.

    Example:
        >>> network = CapturedNetwork(load_packed('detector.safetensors'))
        >>> with torch.inference_mode():
        ...     cls_scores, bbox_preds, *others = network(images)
    """

    def __init__(self, model: nn.Module, forward: Callable[[Tensor], Any] | None = None) -> None:
        if forward is None and hasattr(model, 'roi_head'):
            raise UsageError(
                f'CapturedNetwork: {type(model).__name__} is a two-stage detector, which needs more than images. Give '
                'forward=, for instance model.extract_feat, or call the model itself'
            )
        self.model = model
        self.forward = forward or partial(raw_outputs, model)
        self.is_packed = is_packed(model)
        self._kept: dict[tuple[Any, ...], _Capture] = {}  # the one that was used last is last
        self._last: tuple[Any, ...] = ()
        self._calls: Counter[tuple[Any, ...]] = Counter()  # with shapes that are not kept

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_kept': {}, '_last': (), '_calls': Counter()}

    def __call__(self, images: Tensor) -> Any:
        """Return the outputs of the network.

        Args:
            images (Tensor): ``(N, 3, H, W)``, normalized.
        """
        if not self._is_suitable(images):
            return self.forward(images)
        key = images.shape, images.stride(), torch.get_num_threads()
        capture = self._kept.get(key) or self._new_capture(key, images)
        if capture is None:
            return self.forward(images)
        if not capture.is_valid():
            if capture.program is not None:
                self._kept.pop(key, None)
            return self.forward(images)
        if key != self._last:
            self._kept.pop(key, None)
            self._kept[key], self._last = capture, key
        return capture.run(images)

    def _new_capture(self, key: tuple[Any, ...], images: Tensor) -> _Capture | None:
        """Record the network for a shape, or return None as long as this does not pay or a module has a hook."""
        if len(self._calls) > MOST_COUNTED:
            self._calls.clear()
        self._calls[key] += 1
        is_full = len(self._kept) >= SIZES_KEPT
        if self._calls[key] < (CALLS_TO_REPLACE if is_full else 2) or has_hook(self.model):
            return None
        self._calls.pop(key, None)
        if is_full:
            for oldest in list(self._kept)[:1]:  # another thread may change the dictionary
                self._kept.pop(oldest, None)
        self._kept[key] = capture = _Capture(self, images)
        return capture

    def _is_suitable(self, images: Tensor) -> bool:
        if not self.is_packed or images.dim() != 4 or not images.numel():
            return False
        if images.numel() > MOST_PIXELS * images.shape[1] or torch.is_grad_enabled():
            return False
        axes = zip(images.shape, images.stride(), strict=True)
        if any(size > 1 and stride == 0 for size, stride in axes):
            return False  # an expanded image: several elements are one in memory
        return can_run(images) and not torch.is_autocast_enabled('cpu')


class _Capture:
    """The operations of a network for inputs of one shape.

    Args:
        network (CapturedNetwork): The network.
        images (Tensor): An input.

    Attributes:
        program (Program, optional): The operations. None if they cannot be replayed.
    """

    def __init__(self, network: CapturedNetwork, images: Tensor) -> None:
        modules = list(network.model.modules())
        self._hooks = all_hooks(network.model)
        self._n_hooks, self._n_handles = sum(map(len, self._hooks)), RemovableHandle.next_id
        self.program: Program | None = None
        self._free: list[Replay] = []
        try:
            with torch.inference_mode(), torch.random.fork_rng(devices=[]):
                self.program = self._record(network.forward, images)
                self._prepared = [m for m in modules if isinstance(m, PreparedModule)]
                self._norms = [
                    m.__dict__['forward']
                    for m in modules
                    if isinstance(m.__dict__.get('forward'), NormPass)
                ]
                self._n_dropped, self._state = PreparedModule.n_dropped, self._new_state()
                if not self.is_valid():
                    raise NotCapturedError('a norm has tensors that were made in inference mode')
                self._try(network.forward, images)
        except NotCapturedError as error:
            self.program = None
            _log_once(f'{type(network.model).__name__} runs by its modules: {error}')

    def _record(self, forward: Callable[[Tensor], Any], images: Tensor) -> Program:
        images = _copy(images)  # the network may change its input in place
        recorder = Recorder(images)
        with recorder:
            result = forward(images)
        return Program(recorder, result)

    def _try(self, forward: Callable[[Tensor], Any], images: Tensor) -> None:
        """Compare the replay with the modules on noise."""
        given = _copy(images).normal_(generator=torch.Generator().manual_seed(0))
        if not is_same(self.run(_copy(given)), forward(given)):
            raise NotCapturedError(
                'on noise, its operations give other outputs: they depend on the values of the input, or this is a bug'
            )

    def is_valid(self) -> bool:
        """Return whether the operations are those of the model as it is."""
        if self.program is None or self._has_new_hook():
            return False
        if any(tensor._version != version for tensor, version in self.program.sources):
            return False
        if any(tensor.data_ptr() != address for tensor, address in self.program.constants):
            return False
        for norm in self._norms:
            norm._update()
        if not self._norms and PreparedModule.n_dropped == self._n_dropped:
            return True
        n_dropped = PreparedModule.n_dropped
        if any(a is not b for a, b in zip(self._new_state(), self._state, strict=True)):
            return False
        self._n_dropped = n_dropped
        return True

    def _has_new_hook(self) -> bool:
        if RemovableHandle.next_id != self._n_handles:  # a hook was registered somewhere
            if sum(map(len, self._hooks)) != self._n_hooks:
                return True
            self._n_handles = RemovableHandle.next_id
        return False

    def _new_state(self) -> list[object]:
        """Return the objects that hold the numbers of the compiled loops."""
        return [module._prepared for module in self._prepared] + [n._start for n in self._norms]

    def run(self, images: Tensor) -> Any:
        """Return the outputs of the operations.

        Args:
            images (Tensor): An input of the shape, strides and dtype of the one that was recorded.
        """
        assert self.program is not None
        try:
            replay = self._free.pop()
        except IndexError:  # another thread runs
            replay = Replay(self.program)
        result = replay.run(images)
        self._free.append(replay)
        return result


def _copy(images: Tensor) -> Tensor:
    """Return a copy with the same strides."""
    return torch.empty_strided(images.shape, images.stride(), dtype=images.dtype).copy_(images)


def all_hooks(model: nn.Module) -> list[Mapping[int, Callable[..., Any]]]:
    """Return the dictionaries of the forward hooks of all modules of a model, and those of all models."""
    return [
        *(hooks for m in model.modules() for hooks in (m._forward_hooks, m._forward_pre_hooks)),
        global_hooks._global_forward_hooks,
        global_hooks._global_forward_pre_hooks,
    ]


def has_hook(model: nn.Module) -> bool:
    """Return whether a model has a forward hook that is not of this package."""
    return not all(is_own_hook(hook) for hooks in all_hooks(model) for hook in hooks.values())


@cache
def _log_once(message: str) -> None:
    log(message)


def is_same(found: Any, expected: Any) -> bool:
    """Return whether outputs are equal to the bit.

    Args:
        found (Any): Tensors in tuples, lists and dictionaries.
        expected (Any): Likewise.
    """
    (found, spec), (expected, other) = tree_flatten(found), tree_flatten(expected)
    return spec == other and all(map(_is_same_leaf, found, expected))


def _is_same_leaf(a: Any, b: Any) -> bool:
    if not torch.is_tensor(a):
        return type(a) is type(b) and a == b
    if a.shape != b.shape or a.dtype != b.dtype or a.stride() != b.stride():
        return False
    return torch.equal(_bytes_of(a), _bytes_of(b))


def _bytes_of(x: Tensor) -> Tensor:
    return torch.empty(x.numel(), dtype=x.dtype).copy_(x.flatten()).view(torch.uint8)
