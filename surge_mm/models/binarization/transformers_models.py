"""``save_pretrained`` and ``from_pretrained`` of binary models of Hugging Face transformers.

transformers builds a model from its class and ``config.json``, in full precision, and ignores parameters that it does
not expect. So ``save_pretrained`` of a model with binary layers also writes these layers to ``config.json``, as the
quantization method ``surge_mm``, and ``from_pretrained`` makes them binary before it loads the weights. Where this
module is not imported, ``from_pretrained`` warns of an unknown quantization type.

An import of this module registers the method and replaces ``PreTrainedModel.save_pretrained``, for the whole process.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.quantizers import HfQuantizer, register_quantization_config, register_quantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from surge_mm.layers import BinaryLayer, SurgeConv2d
from surge_mm.models.binarization.layer_candidates import BINARY_FORMS, class_path
from surge_mm.models.binarization.relu_replacement import build_relu_replacement
from surge_mm.models.binarization.shortcuts import ShortcutSequential, add_shortcuts
from surge_mm.ops import ActivationBinarizer, GradientScale, WeightBinarizer
from surge_mm.utils.errors import UsageError
from surge_mm.utils.modules import replace_modules

METHOD = 'surge_mm'
FAMILIES: dict[str, Any] = {
    'activation': ActivationBinarizer,
    'weight': WeightBinarizer,
    'compensator': GradientScale,
}
"""Families of the classes that the settings of a layer name."""


@register_quantization_config(METHOD)
class SurgeConfig(QuantizationConfigMixin):
    """The binary layers of a model, in its ``config.json``.

    Args:
        layers (dict[str, dict]): Settings of each binary layer, by its dotted name.
        activations (dict[str, dict]): Class and arguments of each activation that replaces ReLU, by its name.
        shortcuts (dict[str, dict]): For each sequence with shortcuts, its convolutions and their strides.
        quant_method (str): ``'surge_mm'``.
    """

    def __init__(
        self,
        layers: Mapping[str, Any],
        activations: Mapping[str, Any],
        shortcuts: Mapping[str, Any],
        quant_method: str = METHOD,
    ) -> None:
        self.quant_method = quant_method
        self.layers, self.activations, self.shortcuts = layers, activations, shortcuts


@register_quantizer(METHOD)
class SurgeQuantizer(HfQuantizer):
    """Make the layers of a model binary that were binary when it was saved.

    Args:
        quantization_config (SurgeConfig): The layers.
        **kwargs (Any): As for ``HfQuantizer``.

    Raises:
        UsageError: if the model was in full precision when it was saved.
    """

    def __init__(self, quantization_config: SurgeConfig, **kwargs: Any) -> None:
        super().__init__(quantization_config, **kwargs)
        if not self.pre_quantized:
            raise UsageError(
                'quantization_config: a model is not made binary while it is loaded. Load it without the argument, and '
                'call surge_mm.binarize(model)'
            )

    def is_serializable(self, **kwargs: Any) -> bool:
        """Return True.

        Args:
            **kwargs (Any): Not used.
        """
        return True

    @property
    def is_trainable(self) -> bool:
        return True

    def _process_model_before_weight_loading(self, model: nn.Module, **kwargs: Any) -> None:
        config = self.quantization_config
        replacements: dict[nn.Module, nn.Module] = {}
        for layer, settings in _found(model, config.layers):
            if not isinstance(layer, BinaryLayer):  # else the class builds it
                _check_classes(settings)
                form: Any = BINARY_FORMS[class_path(layer)]
                replacements[layer] = form.from_float(layer, **settings)
                replacements[layer]._surge_rule = 'config.json'  # type: ignore[assignment]
        for relu, act_cfg in _found(model, config.activations):
            if act_cfg.get('type') not in nn.modules.activation.__all__:
                raise UsageError(
                    f'activation {act_cfg!r:.200} of config.json must be one of torch.nn'
                )
            new = build_relu_replacement(act_cfg)
            new._surge_replaced, new._surge_act_cfg = (relu,), act_cfg  # type: ignore[assignment]
            replacements[relu] = new
        add_shortcuts(dict(_found(model, config.shortcuts)))
        replace_modules(model, replacements)

    def _process_model_after_weight_loading(self, model: nn.Module, **kwargs: Any) -> None:
        for layer in model.modules():
            if isinstance(layer, BinaryLayer):
                layer.finish_loading()
        # an ordinary model, which may be trained, cast and saved
        model.is_quantized = False  # type: ignore[assignment]
        for name in ('hf_quantizer', 'quantization_method'):
            vars(model).pop(name, None)
        vars(model.config).pop('quantization_config', None)


def _check_classes(settings: Mapping[str, Any]) -> None:
    """Check that the classes that ``config.json`` names are defined. To build others would import a module by its name.

    Raises:
        UsageError: if one is not.
    """
    for key, family in FAMILIES.items():
        kind = (settings.get(key) or {}).get('type')
        if kind is not None and family.find(kind) is None:
            raise UsageError(
                f'{key}: {kind!r:.200} of config.json is not defined. If it is a class of your own, import its module '
                'before from_pretrained'
            )


def _found(model: Any, settings: Mapping[str, Any]) -> Iterator[tuple[nn.Module, Any]]:
    """Yield the modules of a model that have settings.

    A model with a head has names such as ``'vit.encoder'``, and the same model without a head ``'encoder'``.

    Raises:
        UsageError: if the model has none of the modules.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    prefix = f'{model.base_model_prefix}.'
    places = [(name, name.removeprefix(prefix), prefix + name) for name in settings]
    found = [next((name for name in names if name in modules), None) for names in places]
    if settings and not any(found):
        raise UsageError(
            f'{type(model).__name__} has none of the layers that were binary when it was saved, such as '
            f'{next(iter(settings))!r}. Load it by the class that was saved'
        )
    for name, value in zip(found, settings.values(), strict=True):
        if name is not None:
            yield modules[name], value


def binary_config(model: nn.Module) -> SurgeConfig | None:
    """Return the binary layers of a model; None if it has none.

    Args:
        model (nn.Module): The model.
    """
    layers, activations, shortcuts = {}, {}, {}
    for name, module in model.named_modules():
        if isinstance(module, BinaryLayer):
            layers[name] = _named(module.settings)
            if isinstance(module, SurgeConv2d):
                layers[name]['pad_value'] = module.pad_value
        elif hasattr(module, '_surge_act_cfg'):
            activations[name] = _named(module._surge_act_cfg)
        elif isinstance(module, ShortcutSequential):
            shortcuts[name] = module.shortcuts
    return SurgeConfig(layers, activations, shortcuts) if layers else None


def _named(value: Any) -> Any:
    """Return settings with the names of classes instead of the classes."""
    if isinstance(value, Mapping):
        return {key: _named(inner) for key, inner in value.items()}
    return f'{value.__module__}.{value.__name__}' if isinstance(value, type) else value


def _with_binary_layers(save: Any) -> Any:
    @functools.wraps(save)
    def save_pretrained(self: Any, *args: Any, **kwargs: Any) -> Any:
        config = binary_config(self)
        if config is None or getattr(self.config, 'quantization_config', None) is not None:
            return save(self, *args, **kwargs)
        self.config.quantization_config = config
        try:
            return save(self, *args, **kwargs)
        finally:
            del self.config.quantization_config  # other models may have this config object

    return save_pretrained


PreTrainedModel.save_pretrained = _with_binary_layers(PreTrainedModel.save_pretrained)
