"""Access to the modules of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from surge_mm.utils.errors import UsageError


def takes_texts(model: nn.Module) -> bool:
    """Return whether a model is a :class:`surge_mm.TextClassifier`, by its class attribute of this name."""
    return getattr(model, 'takes_texts', False)


def encoder_sizes(encoder: nn.Module) -> Mapping[str, Any]:
    """Return the sizes of an encoder of texts, under Hugging Face's names such as ``vocab_size``.

    They are those of its attribute ``config``, a dict or a config of transformers; none without one.

    Args:
        encoder (nn.Module): The encoder.
    """
    config = getattr(encoder, 'config', {})
    if hasattr(config, 'to_dict'):
        config = config.to_dict()
    return config if isinstance(config, Mapping) else {}


def vocabulary_size(encoder: nn.Module) -> int:
    """Return the number of tokens of an encoder of texts: that of its config, or else of its first embedding.

    Args:
        encoder (nn.Module): The encoder.

    Raises:
        UsageError: if it has neither.
    """
    sizes = encoder_sizes(encoder)
    if 'vocab_size' in sizes:
        return sizes['vocab_size']
    for module in encoder.modules():
        if isinstance(module, nn.Embedding):
            return module.num_embeddings
    raise UsageError(
        f'{type(encoder).__name__} has no embedding and no config with vocab_size, the number of tokens: give it the '
        'attribute config=dict(vocab_size=...)'
    )


def raw_outputs(model: nn.Module, images: Tensor) -> Any:
    """Return what the network of a model computes: by ``mode='tensor'`` for a model of MMDetection or MMPretrain.

    Args:
        model (nn.Module): One-stage detector, classifier or module of images.
        images (Tensor): ``(N, 3, H, W)``.
    """
    return model(images, mode='tensor') if hasattr(model, 'data_preprocessor') else model(images)


def is_packed_layer(module: nn.Module) -> bool:
    """Return whether :func:`surge_mm.deploy.pack` has made a module, by its class attribute of this name."""
    return getattr(module, 'is_packed_layer', False)


def is_packed(model: nn.Module) -> bool:
    """Return whether a model has packed layers."""
    return any(map(is_packed_layer, model.modules()))


def unwrap_model(model: nn.Module) -> nn.Module:
    """Return the model inside a wrapper such as ``DistributedDataParallel``; ``model`` itself if there is none."""
    inner = getattr(model, 'module', model)
    assert isinstance(inner, nn.Module)
    return inner


def replace_modules(model: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> nn.Module:
    """Replace modules of a model in place, each everywhere it is used.

    A module that is shared, that is, registered under several names, has one replacement, which is shared as well.

    Args:
        model (nn.Module): Model to change.
        replacements (Mapping[nn.Module, nn.Module]): New module for each module to replace. Modules that are not part
            of ``model`` are ignored.

    Returns:
        nn.Module: ``model``, or its replacement if ``model`` itself is a key of ``replacements``.
    """
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child is not None and child in replacements:
                parent._modules[name] = replacements[child]
    return replacements.get(model, model)
