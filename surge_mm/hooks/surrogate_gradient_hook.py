"""Controls of the surrogate gradient for all layers of a model."""

from __future__ import annotations

from typing import Any, Literal

from mmengine.runner import Runner

from surge_mm.hooks.layer_hook import LayerHook
from surge_mm.layers import BinaryLayer
from surge_mm.ops import STESign
from surge_mm.registry import HOOKS
from surge_mm.utils.argument_checks import Fraction
from surge_mm.utils.errors import UsageError
from surge_mm.utils.logging import log


@HOOKS.register_module()
class SurrogateGradientHook(LayerHook):
    """Set the controls of the surrogate derivative in every binary layer of the model.

    :meth:`surge_mm.ops.ActivationBinarizer.surrogate` has their formula. Each argument that is given overrides that of
    the ``activation`` of the layers.

    Args:
        gain (float, optional): Factor of the surrogate derivative, above 0. Defaults to None: that of the layers.
        floor (float, optional): Lower bound of the surrogate derivative, 0 to 1. Defaults to None: that of the layers.
        window (str, optional): ``'rms'``, or None for that of the layers. Defaults to None.
        k (float, optional): Factor of the window ``'rms'``, above 0. It needs ``window``. Defaults to None: that of the
            layers.

    Raises:
        ValueError: if an argument is out of range, or none is given. At the start of training: if the model has no
            binary layer.
    """

    def __init__(
        self,
        gain: float | None = None,
        floor: Fraction | None = None,
        window: Literal['rms'] | None = None,
        k: float | None = None,
    ) -> None:
        self.controls: dict[str, Any] = {'gain': gain, 'floor': floor, 'window': window, 'k': k}
        if all(value is None for value in self.controls.values()):
            raise UsageError(
                'SurrogateGradientHook: give gain, floor or window, or remove the hook'
            )
        try:
            STESign().control(**self.controls)
        except ValueError as error:
            raise UsageError(f'SurrogateGradientHook: {error}') from error

    def before_train(self, runner: Runner) -> None:
        """Set the controls of the binary layers.

        Args:
            runner (Runner): Runner of the training.

        Raises:
            UsageError: if the model has no binary layer.
        """
        layers = [module for module in runner.model.modules() if isinstance(module, BinaryLayer)]
        if not layers:
            self.report_no_layers(
                runner,
                'the model has no binary layer. Remove the hook from custom_hooks',
            )
            return
        for layer in layers:
            layer.activation.control(**self.controls)
        found = sorted({str(layer.activation) for layer in layers})
        log(f'Surrogate gradients of the {len(layers)} binary layers: {", ".join(found)}')
