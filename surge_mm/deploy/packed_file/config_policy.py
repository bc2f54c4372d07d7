"""Check of the config of a packed file, before anything is built from it.

MMEngine builds whatever a config names. For a name that is in no registry, it imports the module and takes the object
of that name (``'os.system'``); for a scope, it imports its registry. Some registered classes read files, fetch models
or evaluate text as Python. So a packed file may name only classes of an allow-list
(:mod:`surge_mm.deploy.packed_file.allowed_classes`), looked up in the registries without an import.

The check does not limit memory: a config may describe a model that is larger than its file.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterator
from importlib import import_module
from typing import Any, NamedTuple

import mmengine.registry

from surge_mm.deploy.packed_file.allowed_classes import full_name, is_allowed
from surge_mm.deploy.packed_file.config import NONE, READING, TRAINING, TYPE_ARGUMENTS, WRITING
from surge_mm.deploy.packed_file.vocabulary import check_vocabulary
from surge_mm.ops import ActivationBinarizer, WeightBinarizer
from surge_mm.registry import MODELS
from surge_mm.utils.errors import UsageError
from surge_mm.utils.hosts import is_installed_host, missing_host

SCOPES = ('mmengine', 'mmdet', 'mmpretrain', 'surge_mm')
"""Registries that are always looked up. Those of other installed packages of OpenMMLab are, where a file names them."""
MODEL: tuple[str, ...] = ('MODELS', 'TASK_UTILS')
PIPELINE, VISUALIZER = ('TRANSFORMS',), ('VISUALIZERS',)
"""Registries that build the parts of a config."""
OTHER_TYPES = frozenset(
    (
        *('nms', 'soft_nms'),  # functions of mmcv.ops, for batched_nms
        # classes of mmcv.ops, for RoI extractors
        *('RoIAlign', 'RoIPool', 'DeformRoIPoolPack', 'ModulatedDeformRoIPoolPack'),
        *('SimpleRoIAlign', 'dilation', 'offset', 'conv', 'interpolation_conv', 'last_conv'),
    )
)
"""Types in models of the hosts that are not looked up in a registry."""
FORBIDDEN_ARGUMENTS = (*TRAINING, *NONE, *WRITING, *READING, 'checkpoint')
"""Arguments that must be None: for training, or names of files to read and write."""
DOTTED_NAME = re.compile(r'[^\W\d]\w*(\.[^\W\d]\w*)+')
KEYS = {'default_scope', 'custom_imports', 'model', 'test_dataloader', 'dataset_meta'}
OPTIONAL_KEYS = {'visualizer', 'vocabulary'}


NamedClass = tuple[str, str, Any]
"""Where a config names a class, such as ``'model.backbone.type'``; the name there; and the class."""


def check_structure(config: Any) -> None:
    """Check that a config has the parts of a packed file, and no others.

    Args:
        config (Any): Config as :func:`surge_mm.deploy.packed_file.config.from_json` returns it.

    Raises:
        UsageError: if a key is missing, unknown or of another type.
    """
    if not isinstance(config, dict) or not KEYS <= set(config) <= KEYS | OPTIONAL_KEYS:
        raise UsageError(
            f'its config must be a dict with the keys {", ".join(sorted(KEYS))}, and may have '
            f'{", ".join(sorted(OPTIONAL_KEYS))}'
        )
    if 'vocabulary' in config:
        check_vocabulary(config['vocabulary'])
    scope, data = config['default_scope'], config['test_dataloader']
    if not is_installed_host(scope):
        raise UsageError(f'default_scope={scope!r:.200} {missing_host(scope)}')
    steps = data.get('dataset', {}).get('pipeline') if isinstance(data, dict) else None
    if not isinstance(steps, list) or data != {'dataset': {'pipeline': steps}}:
        raise UsageError('test_dataloader must hold dataset.pipeline, a list, and nothing else')
    for key, part, _ in _parts(config):
        if not isinstance(part, dict) or 'type' not in part:
            raise UsageError(f'{key} must be a dict with a type')


def named_classes(config: dict[str, Any]) -> list[NamedClass]:
    """Return all classes that a config names, found in the registries without an import.

    Args:
        config (dict): Config that :func:`check_structure` accepts.

    Raises:
        UsageError: if a class is in no registry, or an argument must not be set in a packed file. The error has the key
            and its value.
    """
    found: list[NamedClass] = []
    for key, part, kinds in _parts(config):
        lookup = _Lookup(kinds, config['custom_imports'])
        found += lookup.classes(part, key, config['default_scope'])
    return found


def classes_to_allow(config: dict[str, Any]) -> list[str]:
    """Return the full names of the classes that a config names and that are not on the allow-list.

    Args:
        config (dict): Config that :func:`check_structure` accepts.

    Raises:
        UsageError: as :func:`named_classes`.
    """
    found = named_classes(config)
    return sorted({full_name(cls) for _, _, cls in found if not is_allowed(cls)})


def check_classes(config: dict[str, Any], allow: Collection[type | str]) -> None:
    """Check that a config names allowed classes only.

    Args:
        config (dict): Config that :func:`check_structure` accepts.
        allow (Collection[type | str]): Classes beside those of the allow-list, or their full names.

    Raises:
        UsageError: if a class is not allowed, or as :func:`named_classes`.
    """
    for key, name, cls in named_classes(config):
        if not is_allowed(cls, allow):
            raise UsageError(
                f'{key}={name!r} names {full_name(cls)}, which is not on the list of classes that a packed file may '
                f"name. If you trust the file: load_packed(path, allow=['{full_name(cls)}'])"
            )


def _parts(config: dict[str, Any]) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    """Yield the parts from which objects are built: key, value, registries."""
    yield 'model', config['model'], MODEL
    for i, step in enumerate(config['test_dataloader']['dataset']['pipeline']):
        yield f'test_dataloader.dataset.pipeline.{i}', step, PIPELINE
    if 'visualizer' in config:
        yield 'visualizer', config['visualizer'], VISUALIZER


class _Lookup(NamedTuple):
    """Lookup of the classes of a part of a config, in the registries ``kinds``."""

    kinds: tuple[str, ...]
    imports: Any

    def classes(self, value: Any, key: str, scope: str) -> Iterator[NamedClass]:
        """Yield the classes in a value; names without a scope are looked up in ``scope``."""
        if isinstance(value, (list, tuple)):
            for i, inner in enumerate(value):
                yield from self.classes(inner, f'{key}.{i}', scope)
        elif isinstance(value, str) and DOTTED_NAME.fullmatch(value):
            yield from self.named(value, key, scope)
        elif isinstance(value, dict):
            scope = value.get('_scope_', scope)
            known = scope in (*SCOPES, *mmengine.registry.MODELS.children)
            if not known and not is_installed_host(scope):
                raise UsageError(f'{key}._scope_={scope!r:.200} must be one of {", ".join(SCOPES)}')
            for name, inner in value.items():
                if name in FORBIDDEN_ARGUMENTS and inner is not None:
                    raise UsageError(
                        f'{key}.{name}={inner!r:.200} must not be set in a packed file'
                    )
                if name == 'class_weight' and isinstance(inner, str):
                    raise UsageError(
                        f'{key}.{name}={inner!r:.200} names a file, which a packed file must not: write its numbers'
                    )
                if name in TYPE_ARGUMENTS:
                    yield from self.named(inner, f'{key}.{name}', scope)
                    continue
                if name == 'rules' and isinstance(inner, (list, tuple)):
                    # the other keys of a rule are patterns of names of layers
                    inner = [{'to': rule.get('to')} for rule in inner if isinstance(rule, dict)]
                yield from self.classes(inner, f'{key}.{name}', scope)

    def named(self, name: Any, key: str, scope: str) -> Iterator[NamedClass]:
        """Yield the classes that MMEngine may find under a name."""
        if not isinstance(name, str):
            raise UsageError(f'{key}={name!r:.200} must be the name of a registered class')
        if self.kinds == MODEL and name in OTHER_TYPES:
            return
        found = [
            *(_binarizers(name) if self.kinds == MODEL else ()),
            # backbones of surge_mm look up activations there
            *(
                _registered(kind, name, place)
                for kind in self.kinds
                for place in (scope, 'surge_mm')
            ),
        ]
        classes = [cls for cls in found if cls is not None]
        if not classes and isinstance(cls := _loaded(name), type):
            classes = [cls]
        if not classes:
            raise UsageError(
                f'{key}={name!r:.200} is in no registry of {", ".join(SCOPES)}. If it is a class of your own, '
                f'import its module before you load the file. Its author imported {self.imports!r:.200}'
            )
        for cls in classes:
            yield key, name, cls


def _loaded(name: str) -> Any:
    """Return what MMEngine finds for ``'package.module.Name'``, if that module is imported already."""
    module, _, own = name.rpartition('.')
    return getattr(sys.modules.get(module), own, None)


def _binarizers(name: str) -> list[Any]:
    return [ActivationBinarizer.find(name), WeightBinarizer.find(name)]


def _registered(kind: str, name: str, scope: str) -> Any:
    """Return what ``Registry.get`` finds in its tables, without its import of other names; None for nothing."""
    root = getattr(mmengine.registry, kind)
    named_scope, _, bare = name.rpartition('.')
    place = named_scope or scope
    if is_installed_host(place):
        import_module(f'{place}.registry')
    if kind == 'MODELS' and place == 'surge_mm':
        return MODELS.find(bare) or (None if named_scope else root.module_dict.get(bare))
    own = root if place == 'mmengine' else root.children.get(place)
    for table in (own, None if named_scope else root):
        if table is not None:
            table.import_from_location()
            if bare in table.module_dict:
                return table.module_dict[bare]
    return None
