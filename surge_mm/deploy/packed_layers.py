"""Packed layers: signs of weights as bits, and what follows the sums folded into numbers per channel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from surge_mm.deploy.binary_weights import hindrance, parts_of, window_of
from surge_mm.deploy.cpu import backend as engine
from surge_mm.deploy.cpu.bitpacking import pack_bytes, pack_words, unpack_bytes
from surge_mm.deploy.cpu.geometry import geometry
from surge_mm.deploy.epilogue import NOTHING, Epilogue
from surge_mm.deploy.signs import Signs, dense, minus_border
from surge_mm.layers import BinaryLayer, SurgeConv2d
from surge_mm.ops import sign
from surge_mm.utils.errors import UsageError


class PackedLayer(nn.Module):
    """What both packed layers share: a binary layer without its latent weights, for inference alone.

    Buffers: ``signs`` are those of the weights, 8 in a byte, in the order of the weights; ``shift`` is a learned one
    before the sign of the input; ``offset`` of a filter with values ``+-scale + offset``; the others are in
    ``epilogue``. What the engine reads is made of them when first needed.
    """

    signs: Tensor
    shift: Tensor | None
    offset: Tensor | None

    def __init__(self, layer: BinaryLayer) -> None:
        """Pack ``layer``.

        Raises:
            UsageError: it cannot be packed.
        """
        super().__init__()
        if why := hindrance(layer):
            raise UsageError(f'{type(layer).__name__} cannot be packed: {why}')
        self.window, self.around = window_of(layer)
        self.pad_value = getattr(layer, 'pad_value', 0)
        weight, scale, offset = parts_of(layer)
        assert scale is not None
        channels = len(weight)
        self.shape = self.window.shape(channels)
        self.register_buffer('signs', pack_bytes(weight))
        shift = layer.activation_shift
        self.register_buffer('shift', None if shift is None else shift.detach().reshape(-1).clone())
        self.register_buffer('offset', None if offset is None else offset.reshape(-1).clone())
        self.epilogue = Epilogue(channels)
        self.epilogue.set('m1', scale)
        if layer.bias is not None:
            self.epilogue.set('a1', layer.bias)
        self._ready: dict[Any, Any] = {}

    def _apply(self, fn: Any, recurse: bool = True) -> PackedLayer:
        self._ready = {}
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._ready = {}
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, '_ready': {}}

    def weight_signs(self) -> Tensor:
        """+1 and -1, of the shape of the weights as a convolution has them."""
        return unpack_bytes(self.signs, self.shape)

    def _check(self, x: Tensor) -> None:
        if x.requires_grad and torch.is_grad_enabled():
            raise UsageError(
                f'{type(self).__name__} has no gradient: packed models are for inference. Train the model before it is '
                'packed'
            )

    def _by_engine(self, x: Tensor) -> bool:
        return x.is_cpu and x.dtype == torch.float32 and engine.kernels() is not None

    def run(
        self,
        x: Tensor | Signs,
        shortcut: Tensor | None = None,
        following: PackedLayer | None = None,
        real: bool = True,
    ) -> tuple[Tensor, Signs | None]:
        """The output and the sign bits that the next layer reads.

        Args:
            x (Tensor | Signs): The input, or its sign bits.
            shortcut (Tensor, optional): ``(N, C_out, H', W')``, added behind the batch norm.
            following (PackedLayer, optional): The layer that reads the signs of the output.
            real (bool): Whether the output itself is wanted beside the signs. Defaults to True.

        Returns:
            tuple: The output, empty if it is not wanted, and its signs, None where they are not made here.
        """
        if isinstance(x, Tensor):
            self._check(x)
            x = self.prepare(x)
            if not self._by_engine(x):
                self._check_size(x.shape[1], x.shape[2], x.shape[3])
                return self._plain(x, shortcut), None
            if self.offset is not None:
                sums, _ = self._engine(x, None, None, True)
                return self.epilogue(sums, shortcut, self._extra(self._padded_signs(x))), None
        return self._engine(x, shortcut, following, real)

    def prepare(self, x: Tensor) -> Tensor:
        """The input with a border that is made of itself."""
        return x

    def takes_signs(self) -> bool:
        """Whether the layer before may write this one's sign bits."""
        return self.window.groups == 1 and not any(self.around) and self.offset is None

    def _check_size(self, channels: int, height: int, width: int) -> None:
        if channels != self.window.channels or min(self.window.output(height, width)) < 1:
            raise UsageError(
                f'the input of channels, height and width {channels, height, width} must have '
                f'{self.window.channels} channels and at least the size of the kernel {self.window.kernel}'
            )

    def new_signs(self, images: int, size: tuple[int, int]) -> Signs:
        """Images for the signs of an input, with the border as training has it and nothing inside."""
        words, border = self._once(('image', size), self._image, size)
        if border is None:
            return Signs(torch.zeros(images, words, dtype=torch.int64), size)
        return Signs(border.repeat(images, 1), size)

    def _image(self, size: tuple[int, int]) -> tuple[int, Tensor | None]:
        """Words of a padded image, and what they are around the pixels, if that is not 0."""
        self._check_size(self.window.channels, *size)
        words = geometry(self.window, *size).image_words
        return words, minus_border(self.window, size) if self.pad_value == -1 else None

    def _once(self, key: Any, make: Callable[..., Any], *arguments: Any) -> Any:
        """What ``make`` makes, kept for the next time; of many sizes of images, the last few."""
        found = self._ready.get(key)
        if found is None:
            if len(self._ready) > 64:
                self._ready.clear()
            found = self._ready[key] = make(*arguments)
        return found

    def signs_of(self, x: Tensor) -> Signs:
        """The sign bits of an input."""
        size = (x.shape[2], x.shape[3])
        signs = self.new_signs(len(x), size)
        self._plan_of(size, None).pack(len(x), dense(x), signs.words)
        return signs

    def _own_shift(self) -> Tensor:
        if self.shift is None:
            return torch.full((self.window.channels,), NOTHING, dtype=torch.float32)
        return self.shift.to('cpu', torch.float32)

    def _engine(
        self,
        x: Tensor | Signs,
        shortcut: Tensor | None,
        following: PackedLayer | None,
        real: bool,
    ) -> tuple[Tensor, Signs | None]:
        if isinstance(x, Signs):
            pixels, signs = None, x
        else:
            images, channels, height, width = x.shape
            if channels != self.window.channels:
                self._check_size(channels, height, width)
            pixels, signs = dense(x), self.new_signs(images, (height, width))
        if following is not None and not self._can_write_signs_of(following):
            following, real = None, True
        images, channels = signs.words.shape[0], self.shape[0]
        plan = self._plan_of(signs.size, following)
        height, width = plan.size
        out = None
        if real:
            # channels last, told by strides: more than a microsecond faster than by memory_format
            row = width * channels
            out = torch.empty_strided(
                (images, channels, height, width),
                (height * row, 1, row, channels),
                dtype=torch.float32,
            )
        beside = None
        if shortcut is not None:
            if (
                shortcut.shape != (images, channels, height, width)
                or shortcut.dtype != torch.float32
            ):
                raise UsageError(
                    f'the shortcut {tuple(shortcut.shape)} of {shortcut.dtype} must be as the output, '
                    f'{(images, channels, height, width)} of float32'
                )
            beside = dense(shortcut)
        made = None if following is None else following.new_signs(images, plan.size)
        plan.run(images, pixels, signs.words, beside, out, made.words if made else None)
        return torch.empty(0) if out is None else out, made

    def _can_write_signs_of(self, following: PackedLayer) -> bool:
        """Whether they are as many channels, each 16 of which begin at a byte of the signs."""
        groups, channels = self.window.groups, self.shape[0]
        return (
            following.takes_signs()
            and following.window.channels == channels
            and (groups == 1 or channels // groups % 16 == 0)
        )

    def _plan_of(self, size: tuple[int, int], following: PackedLayer | None) -> engine.Plan:
        """What the engine is told of this layer upon images of ``size``."""
        plan, numbers = self._once((size, following), self._plan, size, following)
        if following is not None and numbers is not following._ready:
            # following has loaded other numbers: it has a new dict then
            plan, _ = self._ready[size, following] = self._plan(size, following)
        return plan

    def _plan(
        self, size: tuple[int, int], following: PackedLayer | None
    ) -> tuple[engine.Plan, Any]:
        geo = geometry(self.window, *size)
        groups, channels = self.window.groups, self.shape[0]
        filters, table, activated, taps = self._once('filters', self._filters)
        base = torch.full((len(geo.inside), channels), float(self.shape[1:].numel()))
        if self.pad_value == 0:  # the bits of the border stand for +1: take back what they add
            # autocast would round them, but lets double be
            base -= (~geo.inside).double() @ taps.t().double()
        base = engine.widened(base, groups).to(torch.int32)
        shift, next_geo, numbers = table[0], None, None  # not read without signs
        if following is not None:
            shift = engine.widened(following._own_shift()[None], groups)[0]
            next_geo = geometry(following.window, *self.window.output(*size))
            numbers = following._ready
        in_shift = self._once('shift', self._own_shift)
        output = self.window.output(*size)
        plan = engine.Plan(
            geo, output, in_shift, filters, base, table, activated, channels, shift, next_geo
        )
        return plan, numbers

    def _filters(self) -> tuple[Tensor, Tensor, bool, Tensor]:
        """What the loops read: filters, steps, whether one is behind the shortcut.

        And the sums of each tap's signs, ``(C_out, kH * kW)``.
        """
        weight = self.weight_signs().permute(0, 2, 3, 1)
        filters = engine.blocked(
            pack_words(weight).unflatten(0, (self.window.groups, -1)), self.window.kernel[1] == 3
        )
        steps = self.epilogue if self.offset is None else Epilogue(self.shape[0])  # the sums alone
        table = engine.widened(steps.table(), self.window.groups)
        return filters, table, steps.activates(), weight.sum(-1).flatten(1)

    def _plain(self, x: Tensor, shortcut: Tensor | None) -> Tensor:
        """In PyTorch's operators."""
        q_x = self._padded_signs(x)
        sums = self._convolve(q_x, self.weight_signs())
        return self.epilogue(sums, shortcut, None if self.offset is None else self._extra(q_x))

    def _padded_signs(self, x: Tensor) -> Tensor:
        q_x = sign(x if self.shift is None else x + self.shift.view(-1, 1, 1))
        return F.pad(q_x, self.window.padding, value=float(self.pad_value))

    def _convolve(self, q_x: Tensor, w: Tensor) -> Tensor:
        window = self.window
        return F.conv2d(q_x, w.to(q_x), None, window.stride, 0, window.dilation, window.groups)

    def _extra(self, q_x: Tensor) -> Tensor:
        """``offset (1 * Q_x)``: what filters of the values ``+-scale + offset`` add."""
        assert self.offset is not None
        windows = self._convolve(q_x, torch.ones(self.window.groups, *self.shape[1:]))
        if self.window.groups > 1:
            windows = windows.repeat_interleave(self.shape[0] // self.window.groups, 1)
        return windows * self.offset.view(-1, 1, 1)

    def extra_repr(self) -> str:
        out, (left, right, top, bottom) = self.shape[0], self.window.padding
        parts = [
            f'{self.window.channels}, {out}',
            f'kernel_size={self.window.kernel}',
            f'stride={self.window.stride}',
        ]
        parts += [f'padding={(left, right, top, bottom)}', f'pad_value={self.pad_value}']
        parts += [f'groups={self.window.groups}'] if self.window.groups > 1 else []
        return ', '.join(parts)


class PackedConv2d(PackedLayer):
    """A binary convolution, packed: ``(N, C_in, H, W) -> (N, C_out, H', W')``, in the memory format channels_last.

    Its output is that of the :class:`surge_mm.SurgeConv2d` that it was made of, to the bit in float32 on a CPU, and of
    what was folded into it. On other devices and without Numba it computes the same in PyTorch's operators.
    """

    def __init__(self, layer: SurgeConv2d) -> None:
        super().__init__(layer)
        self.pad_mode = layer.padding_mode

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == 3:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        return self.run(x)[0]

    def prepare(self, x: Tensor) -> Tensor:
        return F.pad(x, self.around, mode=self.pad_mode) if any(self.around) else x


class PackedLinear(PackedLayer):
    """A binary linear layer, packed: ``(..., C_in) -> (..., C_out)``, as :class:`PackedConv2d`."""

    def forward(self, x: Tensor) -> Tensor:
        if not x.numel():
            return x.new_zeros(*x.shape[:-1], self.shape[0])
        rows = x.reshape(1, 1, -1, x.shape[-1])
        out = self.run(rows.permute(0, 3, 1, 2))[0]
        return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)
