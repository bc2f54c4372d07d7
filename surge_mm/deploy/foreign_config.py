"""The config of a packed file as a stranger may have written it: what it may name before anything is built of it.

MMEngine builds whatever a config names. For a name that no registry has, ``Registry.get`` imports the module and takes
the object of that name (``'os.system'``), and a scope is imported as ``SCOPE.registry``. Some classes of the hosts run
or load what their arguments say: ``mmcv.ops.batched_nms`` evaluates ``nms.type`` as Python, and so do
``CameraMotionCompensation`` and the wrappers of torchvision's transforms with their ``warp_mode`` and ``dtype``; others
take the names of models to download, or of pickles. So here

- every ``type`` must be in the tables of the registries, under the scope that MMEngine would look in;
- classes that take code, files or addresses are refused, and so are arguments that do;
- no text may look like a call or an address.

What was read for this are MMEngine 0.10.7, MMCV 2.1 and 2.2, MMDetection 3.3 and MMPretrain 1.2.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import mmengine.registry

from surge_mm.errors import UsageError
from surge_mm.ops import ActivationBinarizer, WeightBinarizer

from .stored_config import NONE, TRAINING, WRITING

HOSTS = ('mmdet', 'mmpretrain')
SCOPES = ('mmengine', *HOSTS, 'surge_mm')
MODEL, PIPELINE, VISUALIZER = ('MODELS', 'TASK_UTILS'), ('TRANSFORMS',), ('VISUALIZERS',)
"""The registries that the parts of a config are built by."""
OTHER_NAMES = frozenset(
    (
        *('nms', 'soft_nms'),  # of mmcv.ops, by batched_nms
        *(
            'RoIAlign',
            'RoIPool',
            'DeformRoIPoolPack',
            'ModulatedDeformRoIPoolPack',
        ),  # of mmcv.ops, by extractors
        *('SimpleRoIAlign', 'dilation', 'offset', 'conv', 'interpolation_conv', 'last_conv'),
    )
)
"""Types in models of the hosts that are looked up in tables of their own."""
ARGUMENTS = (*TRAINING, *NONE, *WRITING, 'checkpoint')
"""Arguments that no packed file holds: for training, or the names of files to read and write."""
READERS = (
    *('mmdet.models.detectors.d2_wrapper', 'mmdet.models.detectors.glip'),
    *('mmdet.models.detectors.grounding_dino', 'mmdet.models.detectors.kd_one_stage'),
    *('mmdet.models.detectors.lad', 'mmdet.models.dense_heads.atss_vlfusion_head'),
    *('mmdet.models.language_models', 'mmdet.models.mot', 'mmdet.models.trackers'),
    *('mmdet.models.task_modules.tracking', 'mmdet.datasets.transforms.text_transformers'),
    *('mmpretrain.models.backbones.timm_backbone', 'mmpretrain.models.classifiers.hugging_face'),
    *('mmpretrain.models.classifiers.timm', 'mmpretrain.models.heads.vqa_head'),
    *('mmpretrain.models.multimodal', 'mmpretrain.models.peft', 'mmpretrain.models.retrievers'),
    *('mmpretrain.models.selfsup', 'mmpretrain.models.utils.huggingface'),
    *('mmpretrain.models.utils.tokenizer', 'mmpretrain.models.utils.vector_quantizer'),
    'surge_mm.deploy',
)
"""Modules of the hosts whose classes run, read or download what their arguments name."""
CODE = re.compile(r'[(;`]|__|://')
KEYS = {'default_scope', 'custom_imports', 'model', 'test_dataloader', 'visualizer', 'dataset_meta'}


def check_config(config: Any) -> None:
    """Refuse a config that names what it must not, or is none of a packed file.

    Args:
        config (dict): As :func:`surge_mm.deploy.stored_config.from_json` reads it.

    Raises:
        UsageError: with the key and its value.
    """
    if not isinstance(config, dict) or not KEYS - {'visualizer'} <= set(config) <= KEYS:
        raise UsageError(f'its config must be a dict with the keys {", ".join(sorted(KEYS))}')
    scope, imports = config['default_scope'], config['custom_imports']
    if scope not in HOSTS:
        raise UsageError(f'default_scope={scope!r} must be {" or ".join(map(repr, HOSTS))}')
    if not (isinstance(imports, list) and all(isinstance(name, str) for name in imports)):
        raise UsageError(f'custom_imports={imports!r} must be a list of names')
    data, meta = config['test_dataloader'], config['dataset_meta']
    classes = meta.get('classes', ()) if isinstance(meta, dict) else None
    if not (isinstance(classes, (list, tuple)) and all(isinstance(name, str) for name in classes)):
        raise UsageError('dataset_meta must be a dict, and its classes a list of names')
    steps = data.get('dataset', {}).get('pipeline') if isinstance(data, dict) else None
    if not isinstance(steps, list) or data != {'dataset': {'pipeline': steps}}:
        raise UsageError('test_dataloader must hold dataset.pipeline, a list, and nothing else')
    check = functools.partial(_check, imports=imports)
    for key, kinds in (('model', MODEL), ('visualizer', VISUALIZER)):
        if key in config:
            _check_built(config[key], key)
            check(config[key], key, kinds, scope)
    for i, step in enumerate(steps):
        key = f'test_dataloader.dataset.pipeline.{i}'
        _check_built(step, key)
        check(step, key, PIPELINE, scope)


def _check_built(value: Any, key: str) -> None:
    if not isinstance(value, dict) or 'type' not in value:
        raise UsageError(f'{key} must be a dict with a type')


def _check(value: Any, key: str, kinds: Sequence[str], scope: str, imports: Sequence[str]) -> None:
    """Check a part of a config and all that is in it.

    Args:
        value: The part.
        key (str): Where it stands.
        kinds (Sequence[str]): The registries that build it.
        scope (str): The scope that names without one are looked up in.
        imports (Sequence[str]): The modules that its author imported.

    Raises:
        UsageError: with the key and its value.
    """
    if isinstance(value, str) and CODE.search(value):
        raise UsageError(
            f'{key}={value!r} looks like code or an address, which no packed file needs'
        )
    if isinstance(value, (list, tuple)):
        for i, inner in enumerate(value):
            _check(inner, f'{key}.{i}', kinds, scope, imports)
    if not isinstance(value, dict):
        return
    scope = value.get('_scope_', scope)
    if not isinstance(scope, str) or not (
        scope in SCOPES or scope in mmengine.registry.MODELS.children
    ):
        raise UsageError(f'{key}._scope_={scope!r} must be one of {", ".join(SCOPES)}')
    for name, inner in value.items():
        inner_key = f'{key}.{name}'
        if name in ARGUMENTS and inner is not None:
            raise UsageError(f'{inner_key}={inner!r:.200} must not be set in a packed file')
        if name in ('type', 'base_type'):
            _check_type(inner, inner_key, kinds, scope, imports)
        elif name == 'rules' and isinstance(inner, (list, tuple)):
            for i, rule in enumerate(inner):  # the type of a rule is that of a layer to look for
                rest = (
                    {k: v for k, v in rule.items() if k != 'type'}
                    if isinstance(rule, dict)
                    else rule
                )
                _check(rest, f'{inner_key}.{i}', kinds, scope, imports)
        else:
            _check(inner, inner_key, kinds, scope, imports)


def _check_type(
    name: Any, key: str, kinds: Sequence[str], scope: str, imports: Sequence[str]
) -> None:
    if not isinstance(name, str):
        raise UsageError(f'{key}={name!r} must be the name of a registered class')
    if kinds == MODEL and (name in OTHER_NAMES or _is_binariser(name)):
        return
    found = [
        one
        for kind in kinds
        for place in (scope, 'surge_mm')  # backbones of ours look up activations at home first
        if (one := _registered(kind, name, place)) is not None
    ]
    if not found:
        where = f'its author imported {", ".join(imports)}; ' if imports else ''
        raise UsageError(
            f'{key}={name!r} is in no registry of {", ".join(SCOPES)}. {where}If it is a class of your own, import its '
            'module before you load the file'
        )
    for one in found:
        module = getattr(one, 'func', one).__module__  # wrappers of torchvision are partials
        if any(f'{module}.'.startswith(f'{reader}.') for reader in READERS):
            raise UsageError(
                f'{key}={name!r} is of {module}, whose arguments name files, addresses or code; no packed file '
                'may hold such a class'
            )


def _is_binariser(name: str) -> bool:
    bare = name.removeprefix('surge_mm.')
    return bare in ActivationBinarizer.known or bare in WeightBinarizer.known


def _registered(kind: str, name: str, scope: str) -> Any:
    """What ``Registry.get`` finds under ``name`` in its tables, without what it would import; None for nothing."""
    for host in SCOPES[1:]:
        import_module(f'{host}.registry')
    root = getattr(mmengine.registry, kind)
    said, _, bare = name.rpartition('.')
    own = root if (said or scope) == 'mmengine' else root.children.get(said or scope)
    for table in (own, None if said else root):
        if table is not None:
            table.import_from_location()
            if bare in table.module_dict:
                return table.module_dict[bare]
    return None
