"""Names of the classes in a config, where a ``type`` is a name or, in configs of the new style, the class itself."""

from __future__ import annotations

from typing import Any


def class_name(kind: Any) -> str:
    """Return the name of a class or function without its scope or module, such as ``'Resize'``.

    Args:
        kind (Any): The value of a ``type`` in a config: ``'mmdet.Resize'``, or the class itself.
    """
    return kind.__name__ if callable(kind) else str(kind).rpartition('.')[2]


def registered_name(kind: Any, scope: str | None) -> str:
    """Return the name under which a registry has a class.

    Args:
        kind (Any): The class or function itself, or its path, such as ``'mmdet.models.GIoULoss'``.
        scope (str, optional): ``default_scope`` of the config, whose classes need no scope in their names.

    Returns:
        str: A name such as ``'GIoULoss'`` or ``'surge_mm.SurgeConv2d'``; the path of a class that no registry has; and
        a text that is no path of a class, as it is.
    """
    import mmengine.registry
    from mmengine.registry import Registry
    from mmengine.utils import get_object_from_string

    cls = kind if callable(kind) else get_object_from_string(kind)
    if not callable(cls):
        return kind
    for registry in vars(mmengine.registry).values():
        if not isinstance(registry, Registry):
            continue
        own = registry.children.get(scope, registry)
        for table in (own, registry, *registry.children.values()):
            for name, value in table.module_dict.items():
                if value is cls:
                    hidden = table is not own and name in own.module_dict
                    bare = table in (own, registry) and not hidden
                    return name if bare else f'{table.scope}.{name}'
    import mmcv.ops

    # some arguments of the hosts are names in mmcv.ops
    name = cls.__qualname__
    return name if getattr(mmcv.ops, name, None) is cls else f'{cls.__module__}.{name}'
