"""Check, while a model runs, that its binary layers and their shortcuts take part.

A module may pass ``self.qkv.weight`` to a function and not call ``self.qkv``. It then computes with the latent weight,
in full precision, and the layer has no effect. :func:`.binarize` checks the first forward passes of a model in training
and in evaluation, and :func:`surge_mm.analysis.complexity.model_complexity` checks the one that it counts. In the same
way, a shortcut of an ``nn.Sequential`` has no effect where a module calls the parts of the sequence one by one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from surge_mm.layers import BinaryLayer
from surge_mm.models.binarization.layer_candidates import CONTAINERS
from surge_mm.models.binarization.shortcuts import ShortcutSequential
from surge_mm.utils.errors import UsageError
from surge_mm.utils.logging import warn

PRODUCTS = frozenset(
    [f'conv{transposed}{n}d' for transposed in ('', '_transpose') for n in (1, 2, 3)]
    + ['linear', 'bilinear', 'embedding', 'multi_head_attention_forward', 'convolution']
    + ['matmul', '__matmul__', '__rmatmul__', 'mm', 'bmm', 'mv', 'einsum', 'tensordot', 'inner']
    + ['addmm', 'addbmm', 'baddbmm', 'addmv', 'chain_matmul', 'linalg_multi_dot']
)
"""Names of PyTorch's functions that multiply an input by a weight."""
CASTS = ('to', 'type_as', 'expand_as', 'view_as', 'reshape_as')
"""Functions whose result has the values of the first argument."""


class WeightUse(TorchFunctionMode):
    """Record what uses the weights of the binary layers of a model while the context is open.

    An average of weights, a norm, or a read of the dtype does not count as use: the weight, or something computed from
    it, must be multiplied by an input.

    Args:
        model (nn.Module): Model that runs in the context.

    Attributes:
        ran (set[nn.Module]): Binary layers whose forward ran.
        readers (dict[nn.Module, str]): Binary layers whose weight was multiplied by an input elsewhere, each with the
            name of the function.
        without_shortcut (set[nn.Module]): Binary layers that ran outside the sequence that adds their shortcut.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.ran: set[nn.Module] = set()
        self.readers: dict[nn.Module, str] = {}
        self.without_shortcut: set[nn.Module] = set()
        self._sequences = {
            sequence.get_submodule(name): sequence
            for sequence in model.modules()
            if isinstance(sequence, ShortcutSequential)
            for name in sequence.shortcuts
        }
        # by id, which a tensor that is kept alive keeps
        self._owners: dict[int, tuple[Tensor, set[nn.Module]]] = {}
        for layer in model.modules():
            weight = layer._parameters.get('weight')
            if isinstance(layer, BinaryLayer) and weight is not None:
                self._owners[id(weight)] = (weight, {layer})

    @property
    def idle(self) -> bool:
        """Whether the model has no binary layer."""
        return not self._owners

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if torch.compiler.is_compiling():
            return result
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        owned = [self._owners[id(x)][1] for x in inputs if id(x) in self._owners]
        running = {layer for layer in set().union(*owned) if _runs(layer, BinaryLayer._dual_path)}
        for layer in running & self._sequences.keys():
            if _runs(self._sequences[layer], ShortcutSequential.forward):
                del self._sequences[layer]  # once is enough
                self.without_shortcut.discard(layer)
            else:
                self.without_shortcut.add(layer)
        self.ran |= running
        if read := set().union(*owned) - running:
            name = getattr(func, '__name__', str(func))
            # operators outside PyTorch, such as a deformable convolution, compute as well
            computes = name in PRODUCTS or isinstance(func, torch._ops.OpOverloadPacket)
            if computes and len(owned) < len(inputs):
                self.readers.update(dict.fromkeys(read, name))
            elif not (name.startswith('new_') or name.endswith('_like')) and (
                name not in CASTS or id(inputs[0]) in self._owners
            ):
                self._follow(result, read, inputs)
        return result

    def _follow(self, result: Any, layers: set[nn.Module], inputs: list[Tensor]) -> None:
        """Treat tensors that were computed from the weights of ``layers`` like these weights."""
        for leaf in tree_leaves(result):
            in_place = any(leaf is x for x in inputs)
            if isinstance(leaf, Tensor) and leaf.dim() and not in_place:
                self._owners[id(leaf)] = (leaf, layers)

    def require_own(self) -> None:
        """Check that no weight was used outside its layer alone, and no layer outside the sequence with its shortcut.

        Raises:
            UsageError: if one was.
        """
        modules = dict(self.model.named_modules())
        if names := self._names(self.without_shortcut):
            kinds = {type(_holder(modules, name)).__name__ for name in names}
            raise UsageError(
                f'{_listed(names)}: {_listed(kinds)} calls the parts of an nn.Sequential one by one, so that '
                'the shortcuts of the sequence have no effect. Leave them out: put '
                f'{", ".join(f"dict(name={name!r}, to=dict(shortcuts=False))" for name in names[:5])} before the other '
                'rules'
            )
        if names := self._names(self.readers.keys() & self.ran):
            warn(
                f'{_listed(names)}: besides the layer, {_listed({self.readers[modules[name]] for name in names})} '
                'computes with the latent weight, in full precision'
            )
        names = self._names(self.readers.keys() - self.ran)
        if not names:
            return
        functions = _listed({self.readers[modules[name]] for name in names})
        holders = {name: type(_holder(modules, name)).__name__ for name in names}
        rules = {
            f"dict(name='*{name.rpartition('.')[2]}', inside={holder!r}, to='keep')"
            for name, holder in holders.items()
        }
        raise UsageError(
            f'{_listed(names)}: {_listed(set(holders.values()))} computes with the latent weight '
            f'({functions}) and does not call the layer, so the layer is not binary. Keep it in full precision: put '
            f'{", ".join(sorted(rules))} before the other rules'
        )

    def warn_of_unused(self, when: str) -> None:
        """Log a warning that names the binary layers that did not run.

        Args:
            when (str): What ran, for the message.
        """
        layers = {layer for _, owners in self._owners.values() for layer in owners}
        if unused := layers - self.ran - self.readers.keys():
            warn(
                f'{_listed(self._names(unused))}: did not run in {when}. A binary layer that never runs is not trained '
                'and computes nothing'
            )

    def _names(self, layers: Iterable[nn.Module]) -> list[str]:
        layers = set(layers)
        return [name for name, module in self.model.named_modules() if module in layers]


def check_first_passes(model: nn.Module) -> None:
    """Check the first forward pass of a model in training, and the first in evaluation, by :class:`WeightUse`.

    Each raises a ``UsageError`` if a weight was used outside its layer. Compiled and traced passes
    are not checked.

    Args:
        model (nn.Module): Model with binary layers. It gets forward hooks, which remove themselves after both passes.
    """
    forget_check(model)
    hooks = (
        model.register_forward_pre_hook(_begin),
        # inside the modes of other hooks: modes end in the reverse order of their beginnings
        model.register_forward_hook(_end, always_call=True, prepend=True),
    )
    model._surge_check = (hooks, {True, False})  # type: ignore[assignment]


def forget_check(model: nn.Module) -> None:
    """Remove the hooks of :func:`check_first_passes`, if the model has them."""
    hooks, _ = vars(model).pop('_surge_check', ((), ()))
    for hook in hooks:
        hook.remove()


def _begin(model: nn.Module, args: Any) -> None:
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return
    _, modes = model._surge_check  # type: ignore[misc]
    if model.training not in modes:
        return
    use = WeightUse(model)
    # a compiled module would be compiled again once the context is closed
    if use.idle or any(map(_is_compiled, model.modules())):
        forget_check(model)
    elif '_surge_use' not in vars(model):  # a model may call itself
        model._surge_use = use.__enter__()


def _end(model: nn.Module, args: Any, output: Any) -> None:
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return
    use = vars(model).pop('_surge_use', None)
    if use is None:
        return
    use.__exit__(None, None, None)
    if sys.exc_info()[0] is not None:  # the pass failed
        return
    use.require_own()
    if model.training:
        use.warn_of_unused('the first forward pass of training')
    _, modes = model._surge_check  # type: ignore[misc]
    modes.discard(model.training)
    if not modes:
        forget_check(model)


def _is_compiled(module: nn.Module) -> bool:
    """Whether ``torch.compile`` compiles the module or, as MMEngine's Runner lets it, one of its methods."""
    methods = [module.forward, *vars(module).values()]
    compiled = any(hasattr(method, '_torchdynamo_orig_callable') for method in methods)
    return compiled or module._compiled_call_impl is not None


def _runs(module: nn.Module, method: Callable[..., Any]) -> bool:
    """Whether ``method`` of a module runs now. Hooks would miss direct calls, and the stack needs no clean-up."""
    frame = sys._getframe()
    while frame := frame.f_back:  # type: ignore[assignment]
        if frame.f_code is method.__code__ and frame.f_locals['self'] is module:
            return True
    return False


def _holder(modules: dict[str, nn.Module], name: str) -> nn.Module:
    """Return the module that contains a layer, beyond lists of modules."""
    while name:
        name = name.rpartition('.')[0]
        if not isinstance(modules[name], CONTAINERS):
            break
    return modules[name]


def _listed(names: Iterable[str]) -> str:
    first = sorted(names)
    more = f' and {len(first) - 5} more' if len(first) > 5 else ''
    return ', '.join(first[:5]) + more
