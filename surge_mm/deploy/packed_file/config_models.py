"""Packed models that a config of a host builds."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS as ROOT_MODELS
from torch import nn

from surge_mm.datasets.evaluation_set import dataset_meta
from surge_mm.deploy.packed_file.config import stored_config
from surge_mm.deploy.packed_file.config_policy import (
    check_classes,
    check_structure,
    classes_to_allow,
)
from surge_mm.deploy.packed_file.vocabulary import check_vocabulary_fits, vocabulary_to_store
from surge_mm.deploy.packing.convert import pack
from surge_mm.deploy.predict.kept_priors import keep_priors
from surge_mm.deploy.real_layers.convert import restore_real, stored_real
from surge_mm.utils.errors import DatasetError, UsageError
from surge_mm.utils.hosts import default_scope
from surge_mm.utils.logging import warn
from surge_mm.utils.registry_errors import explain

MAX_MESSAGE = 1000
"""Characters of a message. Those of PyTorch and of the hosts may contain whole arguments."""


def config_to_store(model: nn.Module, cfg: Config) -> tuple[dict[str, Any], list[str]]:
    """Return the part of a config that a packed file stores, and the classes that its reader has to allow.

    Args:
        model (nn.Module): The packed model.
        cfg (Config): The config that it was built from.

    Raises:
        UsageError: if the config cannot be stored.
    """
    if 'model' not in cfg:
        raise UsageError(
            f'cfg has no model, only {", ".join(cfg) or "no key"}: for a model that no config built, pass None instead'
        )
    stored = stored_config(cfg, getattr(model, 'dataset_meta', None) or dataset_meta(cfg))
    try:
        if vocabulary := vocabulary_to_store(model, cfg):
            stored['vocabulary'] = vocabulary
    except DatasetError as error:
        warn(f'the packed file has no vocabulary, which tools/classify.py needs: {error}')
    try:
        check_structure(stored)
        return {**stored, **stored_real(model)}, classes_to_allow(stored)
    except UsageError as error:
        raise UsageError(f'the config cannot be stored in a packed file: {error}') from error


def build_checked(config: Mapping[str, Any], allow: Collection[type | str]) -> nn.Module:
    """Build the packed model of a file, with the attributes that the hosts' inference needs.

    Args:
        config (dict): Config of the file.
        allow (Collection[type | str]): Classes that it may name, beside those of the allow-list.

    Raises:
        UsageError: if the config names another class, or the model cannot be built.
    """
    content = {key: value for key, value in config.items() if key != 'custom_imports'}
    meta, vocabulary = content.pop('dataset_meta'), content.pop('vocabulary', None)
    content.pop('real', None)
    # where mmseg.apis.inference_model reads and changes it
    content['test_pipeline'] = copy.deepcopy(content['test_dataloader']['dataset']['pipeline'])
    check_classes(dict(config), allow)
    model = build_packed(config)
    model.cfg = model._config = Config(content)
    model.dataset_meta = model._dataset_meta = meta
    keep_priors(model)
    if vocabulary:
        check_vocabulary_fits(vocabulary, model)
        model.vocabulary = vocabulary
    return model


def build_packed(config: Mapping[str, Any]) -> nn.Module:
    """Build the packed model of a checked config. Its numbers are arbitrary until a state dict is loaded.

    Args:
        config (dict): Config as :func:`surge_mm.deploy.packed_file.config.stored_config` returns it.

    Raises:
        UsageError: if the model cannot be built or packed.
    """
    try:
        with default_scope(config['default_scope']):
            model = ROOT_MODELS.build(copy.deepcopy(ConfigDict(config['model'])))
        return restore_real(pack(model), config.get('real'))
    except Exception as error:  # classes of the hosts raise anything for wrong arguments
        message = ' '.join(explain(error).split())
        raise UsageError(f'its model cannot be built: {message:.{MAX_MESSAGE}}') from error
