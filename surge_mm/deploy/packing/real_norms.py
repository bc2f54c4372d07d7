"""Batch norms behind real-valued layers of a packed model, each with its activation and max pool in one pass.

A ``ConvModule`` whose norm and activation are part of its convolution, or of the norm before, calls what is left.

The modules keep their places, classes and tensors, so a packed file has the same content with and without the passes.
Only ``forward`` of the instances is another one.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from surge_mm.deploy.cpu.backend import can_run
from surge_mm.deploy.cpu.passes import Finish, Pool
from surge_mm.deploy.packing.epilogue import Epilogue, can_fold_norm
from surge_mm.deploy.packing.followers import Followers, chains, foldable, followers_of
from surge_mm.deploy.packing.unfused import is_conv_module
from surge_mm.models.binarization.layer_candidates import base_class_names
from surge_mm.models.binarization.shortcuts import ShortcutSequential

MOST_SHAPES = 32
"""Shapes of inputs for which a norm keeps how its pass is started."""


def fuse_norms(model: nn.Module) -> None:
    """Have each batch norm of a packed model compute the activation and the max pool behind it too, in place.

    Each ``ConvModule`` then calls its convolution alone, if nothing else is left to it.

    Args:
        model (nn.Module): The packed model.
    """
    split_norms(model)
    uses = Counter(id(m) for _, m in model.named_modules(remove_duplicate=False))
    following: dict[nn.Module, list[str]] = {
        module: [] for module in model.modules() if can_fold_norm(module)
    }
    for prefix, parent in model.named_modules():
        if not _calls_in_order(parent):
            continue
        for chain in chains(parent):
            names = [f'{prefix}.{name}'.lstrip('.') for name in chain]
            modules = [model.get_submodule(name) for name in names]
            for i, norm in enumerate(modules):
                own = [uses[id(m)] == 1 and 'forward' not in m.__dict__ for m in modules[i : i + 3]]
                if norm in following and all(own):
                    found = foldable(model, names[i : i + 3])[1:]
                    following[norm] = max(following[norm], found, key=len)
    for norm, names in following.items():
        after = followers_of(model, names)
        norm.forward = NormPass(norm, after)
        for module in (after.activation, after.pool):
            if module is not None:
                module.forward = pass_through
    for module in model.modules():
        if is_conv_module(module) and _has_conv_alone(module):
            module.forward = ConvAlone(module)


def split_norms(model: nn.Module) -> None:
    """Undo :func:`fuse_norms`, in place.

    Args:
        model (nn.Module): The packed model.
    """
    for module in model.modules():
        forward = module.__dict__.get('forward')
        if isinstance(forward, NormPass | ConvAlone) or forward is pass_through:
            del module.forward


def _calls_in_order(parent: Any, fused: bool = False) -> bool:
    """Whether nothing is computed between the modules of :func:`chains`, and none is left out.

    With ``fused``, a shortcut may be part of the convolution.
    """
    if isinstance(parent, ShortcutSequential) and parent.shortcuts:
        return False
    if 'ShortcutConvModule' in base_class_names(parent) and not (fused and parent.fused):
        return False
    return getattr(parent, 'efficient_conv_bn_eval_forward', None) is None


def _has_conv_alone(parent: Any) -> bool:
    """Whether the convolution is all that a ``ConvModule`` computes."""
    if parent.with_explicit_padding or not _calls_in_order(parent, fused=True):
        return False
    others = [parent.norm] if parent.with_norm else []
    others += [parent.activate] if parent.with_activation else []
    return all(type(m) is nn.Identity or m.__dict__.get('forward') is pass_through for m in others)


class ConvAlone:
    """``forward`` of a ``ConvModule`` that has nothing to do behind its convolution.

    Args:
        parent (ConvModule): The module.
    """

    def __init__(self, parent: nn.Module) -> None:
        self.modules = (
            parent._modules
        )  # in which another convolution may take the place of this one

    def __call__(self, x: Tensor, activate: bool = True, norm: bool = True) -> Tensor:
        """Return the output of the convolution."""
        return self.modules['conv'](x)  # type: ignore[misc]


def pass_through(x: Tensor) -> Tensor:
    """Return ``x``, the output of a pass that has computed this module already."""
    return x


class NormPass:
    """Batch norm, activation and max pool, with the outputs of PyTorch's three passes, to the bit.

    Args:
        norm (_BatchNorm): The batch norm, which :func:`surge_mm.deploy.packing.epilogue.can_fold_norm` accepts.
        after (Followers): The activation and the max pool behind it.
    """

    def __init__(self, norm: Any, after: Followers) -> None:
        self.norm, self.after = norm, after
        self._forget()

    def _forget(self) -> None:
        self._holders: list[dict[str, Tensor | None]] = []
        self._version: list[tuple[int, int]] | None = None
        self._kept: list[Tensor] = []
        self._start: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {'norm': self.norm, 'after': self.after}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def __call__(self, x: Tensor) -> Tensor:
        """Return the output for an input ``(N, C, H, W)``, or any other input of the norm."""
        start = None
        if can_run(x) and x.dim() == 4 and not self.norm.training and not self._has_gradient(x):
            self._update()
            if x.is_contiguous(memory_format=torch.channels_last):
                start = self._start(x.shape, torch.get_num_threads())
        return self._plain(x) if start is None else start.run(x)

    def _has_gradient(self, x: Tensor) -> bool:
        return torch.is_grad_enabled() and any(t.requires_grad for t in (x, *self._tensors()))

    def _tensors(self) -> list[Tensor]:
        """Return the tensors that the numbers of the pass are made of."""
        if not self._holders:
            modules = [self.norm]
            if self.after.activation is not None:
                modules += self.after.activation.modules()
            self._holders = [d for module in modules for d in (module._parameters, module._buffers)]
        return [t for holder in self._holders for t in holder.values() if t is not None]

    def _update(self) -> None:
        """Compute the numbers of the pass anew if a tensor has changed."""
        tensors = self._tensors()
        try:
            version = [(t.data_ptr(), t._version) for t in tensors]
        except RuntimeError:  # tensors made in inference mode do not track changes
            self._forget()
            self._start = partial(self._new_start, None)
            return
        if version != self._version:
            start = partial(self._new_start, self._table(tensors))
            self._start = lru_cache(MOST_SHAPES)(start)
            # kept, so that no other tensor gets their addresses
            self._version, self._kept = version, [t.detach() for t in tensors]

    def _table(self, tensors: list[Tensor]) -> tuple[Tensor, bool] | None:
        """Return the numbers of the pass, and whether it has an activation. None if PyTorch must compute it."""
        floating = (t for t in tensors if t.is_floating_point())
        if not all(t.is_cpu and t.dtype == torch.float32 for t in floating):
            return None
        epilogue = Epilogue(self.norm.num_features)
        epilogue.fold_norm(self.norm)
        if self.after.activation is not None:
            epilogue.fold_activation(self.after.activation)
        return epilogue.table(), epilogue.activates()

    def _new_start(
        self, table: tuple[Tensor, bool] | None, shape: tuple[int, int, int, int], threads: int
    ) -> Finish | None:
        """Return the pass for inputs of one shape. None if PyTorch must compute it, or has an error for it."""
        pool = Pool.of(self.after.pool)
        if table is None or shape[1] != self.norm.num_features or 0 in shape:
            return None
        if pool.height and min(pool.output_size(*shape[2:])) < 1:
            return None
        return Finish(*table, pool, shape, threads)

    def _plain(self, x: Tensor) -> Tensor:
        """Compute the modules by PyTorch's operators."""
        for module in (self.norm, self.after.activation, self.after.pool):
            if module is not None:
                x = type(module).forward(module, x)
        return x
