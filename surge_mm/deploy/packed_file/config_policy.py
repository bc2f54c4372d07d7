"""The config of a packed file as a stranger may have written it: what it may name before anything is built of it.

MMEngine builds whatever a config names. For a name that no registry has, ``Registry.get`` imports the module and takes
the object of that name (``'os.system'``), and a scope is imported as ``SCOPE.registry``. Some classes of the hosts run
or load what their arguments say: ``mmcv.ops.batched_nms`` evaluates ``nms.type`` as Python, and so do
``CameraMotionCompensation`` and the wrappers of torchvision's transforms with their ``warp_mode`` and ``dtype``; others
take the names of models to download, or of pickles. So here

- every ``type`` must be in the tables of the registries, under the scope that MMEngine would look in;
- classes that take code, files or addresses are refused, and so are arguments that do;
- texts and keys must be plain words: no code and no address can be written with them.

What was read for this are MMEngine 0.10.7, MMCV 2.1 and 2.2, MMDetection 3.3 and MMPretrain 1.2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import mmengine.registry

from surge_mm.deploy.packed_file.config import NONE, READING, TRAINING, WRITING
from surge_mm.ops import ActivationBinarizer, WeightBinarizer
from surge_mm.utils.errors import UsageError

HOSTS = ('mmdet', 'mmpretrain')
SCOPES = ('mmengine', *HOSTS, 'surge_mm')
MODEL: tuple[str, ...] = ('MODELS', 'TASK_UTILS')
PIPELINE, VISUALIZER = ('TRANSFORMS',), ('VISUALIZERS',)
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
ARGUMENTS = (*TRAINING, *NONE, *WRITING, *READING, 'checkpoint')
"""Arguments that no packed file holds: for training, or the names of files to read and write."""
TYPES = ('type', 'base_type', 'resize_type')
"""Arguments that name a class: RandomResize and RandomChoiceResize build what their ``resize_type`` says."""
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
WORDS = re.compile(r'[\w ./+-]*', re.ASCII)
"""What texts are made of. Python needs brackets or two underscores for what does harm, an address a colon."""
PATTERNS = re.compile(r'[\w ./+*?!,\[\]-]*', re.ASCII)
"""What the names in rules are made of, which nobody evaluates."""
DEEPEST = 50
"""Levels of a config."""
KEYS = {'default_scope', 'custom_imports', 'model', 'test_dataloader', 'visualizer', 'dataset_meta'}


def check_config(config: Any) -> None:
    """Refuse a config that names what it must not, or is none of a packed file.

    Args:
        config (dict): As :func:`surge_mm.deploy.packed_file.config.from_json` reads it.

    Raises:
        UsageError: with the key and its value.
    """
    if not isinstance(config, dict) or not KEYS - {'visualizer'} <= set(config) <= KEYS:
        raise UsageError(f'its config must be a dict with the keys {", ".join(sorted(KEYS))}')
    _check_depth(config)
    scope, imports = config['default_scope'], config['custom_imports']
    if scope not in HOSTS:
        raise UsageError(f'default_scope={scope!r:.200} must be {" or ".join(map(repr, HOSTS))}')
    if not (
        isinstance(imports, list)
        and all(isinstance(name, str) and WORDS.fullmatch(name) for name in imports)
    ):
        raise UsageError(f'custom_imports={imports!r:.200} must be a list of names')
    data, meta = config['test_dataloader'], config['dataset_meta']
    classes = meta.get('classes', ()) if isinstance(meta, dict) else None
    if not (isinstance(classes, (list, tuple)) and all(isinstance(name, str) for name in classes)):
        raise UsageError('dataset_meta must be a dict, and its classes a list of names')
    steps = data.get('dataset', {}).get('pipeline') if isinstance(data, dict) else None
    if not isinstance(steps, list) or data != {'dataset': {'pipeline': steps}}:
        raise UsageError('test_dataloader must hold dataset.pipeline, a list, and nothing else')
    parts = [('model', config['model'], MODEL)]
    parts += [
        (f'test_dataloader.dataset.pipeline.{i}', one, PIPELINE) for i, one in enumerate(steps)
    ]
    parts += [('visualizer', config['visualizer'], VISUALIZER)] if 'visualizer' in config else []
    for key, part, kinds in parts:
        if not isinstance(part, dict) or 'type' not in part:
            raise UsageError(f'{key} must be a dict with a type')
        _Check(kinds, imports).check(part, key, scope)


def _check_depth(config: Any) -> None:
    """Refuse what is nested so deep that classes of configs, which call themselves for each level, break off."""
    level = [config]
    for _ in range(DEEPEST):
        level = [
            inner
            for value in level
            if isinstance(value, (dict, list, tuple))
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
    if level:
        raise UsageError(f'its config is malformed: it is nested more than {DEEPEST} deep')


@dataclass(frozen=True)
class _Check:
    """Of a part of a config.

    Attributes:
        kinds: The registries that build it.
        imports: The modules that its author imported.
    """

    kinds: tuple[str, ...]
    imports: list[str]

    def check(self, value: Any, key: str, scope: str, words: re.Pattern[str] = WORDS) -> None:
        """Check a value and all that is in it.

        Args:
            value: What stands at ``key``.
            key (str): Its place in the config.
            scope (str): The scope that names without one are looked up in.
            words (re.Pattern): What texts are made of.

        Raises:
            UsageError: with the key and its value.
        """
        if isinstance(value, str) and ('__' in value or not words.fullmatch(value)):
            raise UsageError(
                f'{key}={value!r:.200} looks like code or an address, which no packed file needs'
            )
        if isinstance(value, (list, tuple)):
            for i, inner in enumerate(value):
                self.check(inner, f'{key}.{i}', scope, words)
        if not isinstance(value, dict):
            return
        scope = value.get('_scope_', scope)
        if not isinstance(scope, str) or not (
            scope in SCOPES or scope in mmengine.registry.MODELS.children
        ):
            raise UsageError(f'{key}._scope_={scope!r:.200} must be one of {", ".join(SCOPES)}')
        for name, inner in value.items():
            if not WORDS.fullmatch(name):
                raise UsageError(f'{key}: its key {name!r:.200} is no name')
            inner_key = f'{key}.{name}'
            a_file = name == 'margins' and isinstance(inner, str)  # ArcFaceClsHead reads it
            if a_file or (name in ARGUMENTS and inner is not None):
                raise UsageError(f'{inner_key}={inner!r:.200} must not be set in a packed file')
            if name in TYPES:
                self.check_type(inner, inner_key, scope)
            elif name == 'rules' and isinstance(inner, (list, tuple)):
                for i, rule in enumerate(inner):
                    if isinstance(rule, dict):  # its type is that of a layer to look for
                        rule = {k: v for k, v in rule.items() if k != 'type'}
                    self.check(rule, f'{inner_key}.{i}', scope, PATTERNS)
            else:
                self.check(inner, inner_key, scope, words)

    def check_type(self, name: Any, key: str, scope: str) -> None:
        """Check the name of a class."""
        if not isinstance(name, str):
            raise UsageError(f'{key}={name!r:.200} must be the name of a registered class')
        if self.kinds == MODEL and (name in OTHER_NAMES or _is_binariser(name)):
            return
        found = [
            one
            for kind in self.kinds
            for place in (scope, 'surge_mm')  # backbones of ours look up activations at home first
            if (one := _registered(kind, name, place)) is not None
        ]
        if not found:
            where = f'its author imported {", ".join(self.imports)}; ' if self.imports else ''
            raise UsageError(
                f'{key}={name!r:.200} is in no registry of {", ".join(SCOPES)}. {where}If it is a class of your own, '
                'import its module before you load the file'
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
