"""Start of an encoder of texts from a folder of Hugging Face transformers."""

from __future__ import annotations

import re
from typing import Any

from mmengine.model.weight_init import update_init_info
from torch import nn

from surge_mm.checkpoint.hugging_face import SavedModel, read_folder
from surge_mm.models.backbones import SurgeBert
from surge_mm.models.classifiers import TextClassifier
from surge_mm.registry import WEIGHT_INITIALIZERS
from surge_mm.utils.argument_checks import checked
from surge_mm.utils.errors import UsageError
from surge_mm.utils.logging import log, warn

DEFAULTS = {
    'vocab_size': 30522,
    'hidden_size': 768,
    'num_hidden_layers': 12,
    'num_attention_heads': 12,
    'intermediate_size': 3072,
    'max_position_embeddings': 512,
    'type_vocab_size': 2,
    'layer_norm_eps': 1e-12,
    'hidden_act': 'gelu',
}
"""Values of the keys that a ``config.json`` leaves out."""
OLD_NAMES = {'gamma': 'weight', 'beta': 'bias'}
"""Names of the parameters of layer norms in early checkpoints."""


@WEIGHT_INITIALIZERS.register_module()
class HuggingFaceInit:
    """Load a BERT that Hugging Face transformers has saved: ``init_cfg=dict(type='surge_mm.HuggingFaceInit', ...)``.

    The folder has ``config.json``, which must have the sizes of the model, and ``model.safetensors`` or
    ``pytorch_model.bin``. It may hold the encoder alone or one with a classifier. As the ``init_cfg`` of a
    :class:`surge_mm.TextClassifier`, the classifier of the folder is loaded too, if there is one; as that of
    :class:`surge_mm.SurgeBert`, the encoder alone is. What binary layers add to the parameters starts afresh.
    Neither transformers nor a network is needed.

    Args:
        folder (str): The folder, a path of this machine.
    """

    @checked
    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __call__(self, module: nn.Module) -> None:
        """Load the folder into a :class:`surge_mm.SurgeBert` or a :class:`surge_mm.TextClassifier`.

        Raises:
            UsageError: if the folder or a file is missing, or the model is another one.
            CheckpointError: if a file cannot be read.
        """
        encoder = module.bert if isinstance(module, TextClassifier) else module
        if not isinstance(encoder, SurgeBert):
            raise UsageError(
                f'HuggingFaceInit is for SurgeBert and TextClassifier, and cannot initialize {type(encoder).__name__}'
            )
        saved = read_folder(self.folder)
        check_config(encoder, saved)
        tensors = {_own_name(name): tensor for name, tensor in saved.tensors.items()}
        encoder_tensors = {
            name: tensor
            for name, tensor in tensors.items()
            if name.startswith(('embeddings.', 'encoder.', 'pooler.'))
            and name != 'embeddings.position_ids'
        }
        if not any(name.startswith('encoder.') for name in encoder_tensors):
            raise UsageError(
                f'{str(saved.path)!r} has no weights of an encoder. Name another folder'
            )
        if isinstance(module, TextClassifier):
            _load_classifier(module, tensors, saved)
        try:
            encoder.load_state_dict(encoder_tensors, strict=False)
        except UsageError as error:
            raise UsageError(f'{str(saved.path)!r}: {error}') from error
        if encoder.pooler is not None and 'pooler.dense.weight' not in tensors:
            warn(
                f"{str(saved.path)!r} has no pooler, which starts at random. pooling='mean' needs none"
            )
        if hasattr(module, '_params_init_info'):
            update_init_info(module, f'HuggingFaceInit: load from {self.folder}')


def check_config(encoder: SurgeBert, saved: SavedModel) -> None:
    """Check that the ``config.json`` of a folder is that of an encoder; another activation is only logged.

    Args:
        encoder (SurgeBert): The encoder.
        saved (SavedModel): The folder.

    Raises:
        UsageError: if the type of the model or a size differs.
    """
    path = str(saved.path.with_name('config.json'))
    theirs = {**DEFAULTS, **saved.config}
    for key, only in (('model_type', 'bert'), ('position_embedding_type', 'absolute')):
        if theirs.get(key, only) != only:
            raise UsageError(
                f'{path!r}: {key}={theirs[key]!r:.200} must be {only!r}, of which SurgeBert is. For another model, '
                'use surge_mm.Binarized, or in Python surge_mm.binarize'
            )
    for key, own in encoder.config.items():
        if theirs[key] == own:
            continue
        if key != 'hidden_act':
            raise UsageError(
                f'{path!r}: {key}={theirs[key]!r:.200} is {own!r} in the model. Set {key} of SurgeBert to that of the '
                'folder, or name another folder'
            )
        warn(
            f'{path!r}: hidden_act={theirs[key]!r:.200} of the folder is activation={own!r} in SurgeBert'
        )


def _own_name(name: str) -> str:
    """Return the name of a tensor of Hugging Face without the prefix of the encoder."""
    stem, _, last = re.sub(r'^bert\.', '', name).rpartition('.')
    return f'{stem}.{OLD_NAMES.get(last, last)}' if stem else last


def _load_classifier(module: TextClassifier, tensors: dict[str, Any], saved: SavedModel) -> None:
    theirs = {
        name: tensors[f'classifier.{name}']
        for name in ('weight', 'bias')
        if f'classifier.{name}' in tensors
    }
    if not theirs:
        log(f'{str(saved.path)!r} has no classifier, which starts at random')
        return
    classes = len(theirs['weight'])
    if classes != module.num_classes:
        raise UsageError(
            f'{str(saved.path)!r}: its classifier has {classes} classes, and num_classes={module.num_classes}. To '
            'start from the encoder alone, set init_cfg of the backbone instead of that of TextClassifier'
        )
    if module.bert.pooler is None and 'pooler.dense.weight' in tensors:
        warn(
            f"{str(saved.path)!r}: its classifier takes the feature of its pooler, and pooling='mean' of the model has "
            "no pooler. Set pooling='cls'"
        )
    module.classifier.load_state_dict(theirs)
