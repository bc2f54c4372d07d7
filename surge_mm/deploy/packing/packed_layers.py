"""Packed layers: the signs of weights as bits, and the steps after the sums folded into numbers per channel."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from surge_mm.deploy.cpu.backend import can_run
from surge_mm.deploy.cpu.bitpacking import pack_bytes, unpack_bytes
from surge_mm.deploy.cpu.geometry import check_input
from surge_mm.deploy.cpu.layer import CpuLayer
from surge_mm.deploy.packing.binary_weights import geometry_of, parts_of, unsupported_reason
from surge_mm.deploy.packing.epilogue import NEUTRAL_TERM, Epilogue
from surge_mm.deploy.packing.prepared import PreparedModule
from surge_mm.deploy.packing.signs import LayerOutput, Signs
from surge_mm.layers import BinaryLayer
from surge_mm.ops import sign
from surge_mm.ops.shortcut import pool_shortcut
from surge_mm.utils.errors import UsageError


class PackedLayer(PreparedModule):
    """Base of the packed layers: a binary layer without its latent weights, for inference only.

    Buffers:

    - ``signs``: the signs of the weights, 8 in a byte, ``(C_out, ceil(n / 8))``, uint8, n weights per filter;
    - ``shift``: ``(C_in,)``, a learned shift before the sign of the input, or None;
    - ``offset``: ``(C_out,)``, of weights with the values ``+-scale + offset``, or None;
    - those of ``epilogue``, a :class:`surge_mm.deploy.packing.epilogue.Epilogue`.

    Args:
        layer (BinaryLayer): The layer to pack.

    Raises:
        UsageError: if the layer cannot be packed.
    """

    is_packed_layer = True
    signs: Tensor
    shift: Tensor | None
    offset: Tensor | None

    def __init__(self, layer: BinaryLayer) -> None:
        super().__init__()
        if reason := unsupported_reason(layer):
            raise UsageError(f'{type(layer).__name__} cannot be packed: {reason}')
        self.convolution, self.input_padding = geometry_of(layer)
        self._pads_input = any(self.input_padding)
        self.pad_value = int(getattr(layer, 'pad_value', 0))
        self.pad_mode = str(getattr(layer, 'padding_mode', 'zeros'))
        weight, scale, offset, shift, bias = parts_of(layer)
        assert scale is not None
        if weight.dim() == 2:  # a linear layer is a convolution of one pixel
            weight = weight[:, :, None, None]
        self.shape = weight.shape
        self.register_buffer('signs', pack_bytes(weight))
        self.register_buffer('shift', None if shift is None else shift.detach().reshape(-1).clone())
        self.register_buffer('offset', None if offset is None else offset.reshape(-1).clone())
        self.epilogue = Epilogue(len(weight))
        self.epilogue.set('m1', scale)
        if bias is not None:
            self.epilogue.set('a1', bias)
        self.eval()

    def train(self, mode: bool = True) -> PackedLayer:
        """Set evaluation mode.

        Args:
            mode (bool): False for evaluation, the only mode of a packed model. Defaults to True.

        Raises:
            UsageError: if ``mode`` is True.
        """
        super().train(mode)
        self._check_evaluation()
        return self

    def _check_evaluation(self) -> None:
        if self.training:
            raise UsageError(
                'the model is packed, for inference only, and cannot be in training mode: call model.eval(). To train '
                'further, build the model again and load the state dict of the trained one'
            )

    def __getattr__(self, name: str) -> Any:
        if name == 'weight':
            raise AttributeError(
                f'{type(self).__name__} has signs and no weight. A module that computes with the weight of a layer '
                "instead of calling the layer must keep it in full precision, by a rule with to='keep'"
            )
        return super().__getattr__(name)

    @property
    def in_channels(self) -> int:
        """Channels of the input, C_in."""
        return self.shape[1] * self.convolution.groups

    def weight_signs(self) -> Tensor:
        """Return the weight, +1 and -1: ``(C_out, C_in / groups, kH, kW)``, float32."""
        return unpack_bytes(self.signs, self.shape)

    def run(
        self,
        x: Tensor | Signs,
        shortcut: Tensor | None = None,
        following: PackedLayer | None = None,
        values: bool = True,
    ) -> LayerOutput:
        """Compute the layer, and the sign bits for the layer that follows.

        Args:
            x (Tensor | Signs): Input, ``(N, C_in, H, W)``, or its sign bits.
            shortcut (Tensor, optional): ``(N, C_out, H', W')``, added after the batch norm.
            following (PackedLayer, optional): The layer that reads the signs of the output.
            values (bool): Whether the output itself is needed where its signs can be made. Defaults to True.

        Returns:
            LayerOutput: The output and, where this layer can make them, its signs.

        Raises:
            UsageError: if a gradient is asked for, the layer is in training mode, or the input or the shortcut has
                another shape than the layer takes.
        """
        if self.training:
            self._check_evaluation()
        if isinstance(x, Signs):
            return self._run_cpu(x, shortcut, following, values)
        if x.requires_grad:
            self._check_no_gradient(x)
        if self._pads_input:
            x = self._pad_input(x)
        if not can_run(x):
            check_input(self.convolution, self.shape, x.shape)
            return LayerOutput(self._run_plain(x, shortcut), None)
        if self._buffers['offset'] is not None:  # without the time of nn.Module.__getattr__
            sums = self.cpu_layer().run(x, None, None, values=True).values
            assert sums is not None
            return LayerOutput(self.epilogue(sums, shortcut, self._extra(self._signs_of(x))), None)
        return self._run_cpu(x, shortcut, following, values)

    def _pad_input(self, x: Tensor) -> Tensor:
        """Pad an input with values of its own, before its signs are taken."""
        return F.pad(x, self.input_padding, mode=self.pad_mode)

    def takes_signs(self) -> bool:
        """Return whether the layer before may write the sign bits of this layer's input."""
        return not self._pads_input and self._buffers['offset'] is None

    def cpu_layer(self) -> CpuLayer:
        """Return the layer as the compiled loops run it, made when it is first needed."""
        if self._prepared is None:
            self._prepared = self._new_cpu_layer()
        return self._prepared

    @torch.inference_mode(False)  # kept, and read in either mode
    def _new_cpu_layer(self) -> CpuLayer:
        shift, epilogue = self.shift, self.epilogue
        if shift is None:
            shift = torch.full((self.in_channels,), NEUTRAL_TERM, dtype=torch.float32)
        if self.offset is not None:
            epilogue = Epilogue(self.shape[0])  # the sums alone
        return CpuLayer(
            self.convolution,
            self.weight_signs().cpu(),
            self.pad_value,
            shift.to('cpu', torch.float32),
            epilogue.table(),
            epilogue.activates(),
        )

    def _run_cpu(
        self,
        x: Tensor | Signs,
        shortcut: Tensor | None,
        following: PackedLayer | None,
        values: bool,
    ) -> LayerOutput:
        own = self.cpu_layer()
        if following is not None and following.takes_signs():
            after = following.cpu_layer()
            if own.can_write_signs_of(after):
                return own.run(x, shortcut, after, values)
        return own.run(x, shortcut, None, values=True)

    def _check_no_gradient(self, x: Tensor) -> None:
        if x.requires_grad and torch.is_grad_enabled():
            raise UsageError(
                f'{type(self).__name__} has no gradient: packed models are for inference. Train the model before it is '
                'packed'
            )

    def _run_plain(self, x: Tensor, shortcut: Tensor | None) -> Tensor:
        """Compute the layer by PyTorch's operators."""
        q_x = self._signs_of(x)
        weight = self.weight_signs().to(q_x)
        sums = self.convolution.forward(q_x, weight, None, float(self.pad_value))
        return self.epilogue(sums, shortcut, None if self.offset is None else self._extra(q_x))

    def _signs_of(self, x: Tensor) -> Tensor:
        return sign(x if self.shift is None else x + self.shift.view(-1, 1, 1))

    def _extra(self, q_x: Tensor) -> Tensor:
        """Return ``offset (1 * Q_x)``, what filters of the values ``+-scale + offset`` add."""
        assert self.offset is not None
        weight = torch.empty(self.shape, dtype=q_x.dtype, device=q_x.device)
        windows = self.convolution.window_sums(q_x, weight, float(self.pad_value))
        return windows * self.offset.view(-1, 1, 1)

    def extra_repr(self) -> str:
        c = self.convolution
        return (
            f'{self.in_channels}, {self.shape[0]}, kernel_size={tuple(self.shape[2:])}, stride={c.stride}, '
            f'padding={c.padding}, pad_value={self.pad_value}, groups={c.groups}'
        )


class PackedConv2d(PackedLayer):
    """Packed binary convolution: ``(N, C_in, H, W) -> (N, C_out, H', W')``, in the memory format channels_last.

    In float32 on a CPU its output equals that of the :class:`surge_mm.SurgeConv2d` and of the layers folded into it, to
    the bit. On other devices and without Numba it computes the same by PyTorch's operators.

    Args:
        layer (SurgeConv2d): The convolution to pack.

    Raises:
        UsageError: if the layer cannot be packed.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the convolution.

        Args:
            x (Tensor): ``(N, C_in, H, W)`` or ``(C_in, H, W)``.
        """
        if x.dim() == 3:
            return self.forward(x.unsqueeze(0)).squeeze(0)
        out = self.run(x).values
        assert out is not None
        return out


class PackedShortcutConv2d(PackedConv2d):
    """Packed binary convolution that adds its input to its output, average pooled if it is strided.

    Args:
        layer (SurgeConv2d): The convolution to pack, with as many output as input channels.

    Raises:
        UsageError: if the layer cannot be packed.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the output with the shortcut.

        Args:
            x (Tensor): ``(N, C, H, W)``.
        """
        out = self.run(x, pool_shortcut(x, self.convolution.stride[0])).values
        assert out is not None
        return out


class PackedLinear(PackedLayer):
    """Packed binary linear layer: ``(..., C_in) -> (..., C_out)``; see :class:`PackedConv2d`."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the linear layer.

        Args:
            x (Tensor): ``(..., C_in)``.
        """
        if not x.numel():
            return x.new_zeros(*x.shape[:-1], self.shape[0])
        rows = x.reshape(1, 1, -1, x.shape[-1])
        out = self.run(rows.permute(0, 3, 1, 2)).values
        assert out is not None
        return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)
