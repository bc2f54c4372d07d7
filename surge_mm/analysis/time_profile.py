"""Where the time of one image goes, from the image in memory to the result, in parts that add up to the whole.

Timers around modules and methods form a stack: each moment is charged to the innermost one that runs. What no timer
covers is the part ``rest``. Modules without children are timed, and packed layers as one; the time of the parent
modules, such as additions and interpolation in a neck, is charged to ``other operations``. Layers before the first
binary layer are the ``stem``.
"""

from __future__ import annotations

import functools
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import mean, median
from typing import Any, NamedTuple

from torch import Tensor, nn

from surge_mm.analysis.timing import interleaved_times
from surge_mm.layers import BinaryLayer, RPReLU
from surge_mm.models.binarization.shortcuts import NORMS
from surge_mm.utils.modules import is_packed_layer

PIPELINE, PREPROCESSING, STEM = 'pipeline', 'pre-processing', 'stem'
BINARY, REAL, NORM, OTHER = (
    'binary layers',
    'real layers',
    'norms and activations',
    'other operations',
)
DECODING, NMS, REST = 'decoding', 'non-maximum suppression', 'rest'
PARTS = (PIPELINE, PREPROCESSING, STEM, BINARY, REAL, NORM, OTHER, DECODING, NMS, REST)
"""Names of the parts, in the order of an image."""
NETWORK = (STEM, BINARY, REAL, NORM, OTHER)
"""Names of the parts within the network."""
ACTIVATIONS = (
    'torch.nn.modules.activation',
    *(f'mmcv.cnn.bricks.{name}' for name in ('activation', 'swish', 'hs')),
)
"""Beginnings of the modules that define activations."""


class Region(NamedTuple):
    """A method whose time is measured.

    Attributes:
        owner (Any): object or module that has the method.
        method (str): name of the method.
        part (str): one of :data:`PARTS`.
        name (str): name within the part, such as that of a layer. Defaults to ''.
    """

    owner: Any
    method: str
    part: str
    name: str = ''


@dataclass(frozen=True)
class TimeProfile:
    """Seconds of one image, by part.

    Attributes:
        seconds (dict[tuple[str, str], float]): mean seconds by part and name within it, over the faster half of the
            rounds. They add up to ``total``.
        total (float): seconds of the whole with timers, over the same rounds.
        without_timers (float): median seconds of the whole without timers, in turns with the others.
        beside (dict[str, float]): median seconds of further functions, in turns with the others.
    """

    seconds: dict[tuple[str, str], float]
    total: float
    without_timers: float
    beside: dict[str, float]

    def part(self, part: str) -> dict[str, float]:
        """Return the seconds within a part, by name, the largest first.

        Args:
            part (str): one of :data:`PARTS`.
        """
        found = {name: value for (own, name), value in self.seconds.items() if own == part}
        return dict(sorted(found.items(), key=lambda item: -item[1]))


class _Timers:
    """Stack of timers. Each moment is charged to the innermost one."""

    def __init__(self, clock: Callable[[], float], has_stem: bool) -> None:
        self.clock, self.has_stem = clock, has_stem

    def run(self, function: Callable[[], object]) -> Counter[tuple[str, str]]:
        """Return the seconds by part and name while a function runs."""
        self.seconds: Counter[tuple[str, str]] = Counter()
        self.in_stem = self.has_stem
        self.stack = [(REST, '')]
        self.since = self.clock()
        function()
        self._charge()
        return self.seconds

    def timed(self, method: Callable[..., Any], part: str, name: str) -> Callable[..., Any]:
        """Return a method that charges its time to a part."""

        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            self._charge()
            self.in_stem = self.in_stem and part != BINARY
            self.stack.append((part, name))
            try:
                return method(*args, **kwargs)
            finally:
                self._charge()
                self.stack.pop()

        return call

    def _charge(self) -> None:
        now = self.clock()
        part, name = self.stack[-1]
        if self.in_stem and part in (REAL, NORM, OTHER):
            part = STEM
        self.seconds[part, name] += now - self.since  # type: ignore[assignment]
        self.since = now


def profile_time(
    function: Callable[[], object],
    regions: Sequence[Region],
    rounds: int,
    warmup: int,
    clock: Callable[[], float] = time.perf_counter,
    beside: Mapping[str, Callable[[], object]] = {},  # noqa: B006
) -> TimeProfile:
    """Measure the parts of a function, in turns with the function without timers.

    Args:
        function (Callable): runs one image.
        regions (Sequence[Region]): the methods to time, such as :func:`regions_of` of a model.
        rounds (int): number of measured rounds.
        warmup (int): number of rounds before them, which are not measured.
        clock (Callable): returns the time in seconds. Defaults to ``time.perf_counter``.
        beside (Mapping[str, Callable]): further functions to measure as a whole. Defaults to none.

    Returns:
        TimeProfile: the seconds of each part.
    """
    timers = _Timers(clock, any(region.part == BINARY for region in regions))
    found = []

    def with_timers() -> None:
        with _installed(timers, regions):
            found.append(timers.run(function))

    functions = {**beside, 'whole': function, 'with timers': with_timers}
    times = interleaved_times(functions, rounds, warmup, clock=clock)
    found = sorted(found[warmup:], key=lambda seconds: seconds.total())[: (rounds + 1) // 2]
    keys = {key for seconds in found for key in seconds}
    parts = {key: mean(seconds[key] for seconds in found) for key in keys}
    others = {name: median(times[name]) for name in beside}
    return TimeProfile(parts, sum(parts.values()), median(times['whole']), others)


@contextmanager
def _installed(timers: _Timers, regions: Sequence[Region]) -> Iterator[None]:
    """Replace methods by timed ones, and functions for non-maximum suppression where the hosts imported them."""
    replaced: list[tuple[dict[str, Any], str, Any]] = []

    def replace(namespace: dict[str, Any], name: str, value: Any) -> None:
        replaced.append((namespace, name, namespace.get(name)))
        namespace[name] = value

    for owner, method, part, name in regions:
        replace(vars(owner), method, timers.timed(getattr(owner, method), part, name))
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith(('mmdet.', 'surge_mm.')) and 'batched_nms' in vars(module):
            replace(vars(module), 'batched_nms', timers.timed(vars(module)['batched_nms'], NMS, ''))
    try:
        yield
    finally:
        for namespace, name, before in reversed(replaced):
            if before is None:
                del namespace[name]
            else:
                namespace[name] = before


def regions_of(model: nn.Module, binary: Collection[str] = ()) -> list[Region]:
    """Return the regions of a model: its data preprocessor, layers, norms, decoding, and the modules that hold them.

    Args:
        model (nn.Module): a model of a host, packed or not.
        binary (Collection[str]): names of further layers that count as binary layers, such as those of the same model
            in full precision. Defaults to none.
    """
    regions, inside = [], ''
    for name, module in model.named_modules():
        if inside and name.startswith(inside):
            continue
        if hasattr(module, 'predict_by_feat'):
            regions.append(Region(module, 'predict_by_feat', DECODING))
        if is_packed_layer(module):
            regions.append(Region(module, 'run', BINARY, name))
            inside = f'{name}.'
        elif name == 'data_preprocessor':
            regions.append(Region(module, 'forward', PREPROCESSING))
        elif isinstance(module, BinaryLayer) or name in binary:
            regions.append(Region(module, 'forward', BINARY, name))
            inside = f'{name}.'
        elif isinstance(module, nn.Identity):
            continue
        elif not list(module.children()) or _has_matrix(module):
            regions.append(Region(module, 'forward', _part_of(module), name))
            inside = f'{name}.'
        elif name and '.' not in name:
            regions.append(Region(module, 'forward', OTHER, name))
    return regions


def _has_matrix(module: nn.Module) -> bool:
    weight = getattr(module, 'weight', None)
    return isinstance(weight, Tensor) and weight.dim() >= 2


def _part_of(module: nn.Module) -> str:
    """Return the part of a layer, a norm, an activation, or another module without children."""
    if _has_matrix(module):
        return REAL
    kind = type(module).__module__
    is_norm = isinstance(module, (*NORMS, nn.LayerNorm, RPReLU)) or kind.startswith(ACTIVATIONS)
    return NORM if is_norm else OTHER
