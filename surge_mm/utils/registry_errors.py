"""Explain errors that are raised while an object is built from a config."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from pathlib import Path

import mmengine.registry
from mmengine.registry import Registry

from surge_mm.utils.errors import UsageError, describe_error
from surge_mm.utils.suggestions import argument_names, closest_name, did_you_mean

UNEXPECTED_ARGUMENT = re.compile(r"([\w.<>]+)\(\) got an unexpected keyword argument '(\w+)'")
NOT_REGISTERED = re.compile(
    r'(\S+) is not in the (?:(\w+)::)?(.+?) registry\. Please check .*', re.DOTALL
)
PACKAGE = Path(__file__).parents[1]


def explain(error: BaseException) -> str:
    """Return a message about an error that was raised while an object was built from a config.

    For an unknown argument and for an unknown ``type`` it suggests similar names. An error of surge_mm is explained by
    its own message, another one by its type, its message and the line that raised it.

    Args:
        error (BaseException): the error.

    Returns:
        str: the message.
    """
    # the text of a KeyError is the repr of its message
    is_key_error = isinstance(error, KeyError) and bool(error.args)
    message = str(error.args[0]) if is_key_error else str(error)
    if match := UNEXPECTED_ARGUMENT.search(message):
        names = _registered_arguments(match[1])
        return message + did_you_mean(match[2], names) if names else message
    if match := NOT_REGISTERED.search(message):
        registry = _find_registry(match[2], match[3])
        # not `if registry`: an empty registry is false
        hint = '' if registry is None else suggest_registered(match[1], registry)
        return f'{message[: match.start()]}{match[0].partition(". Please")[0]}{hint}'
    raised_at = traceback.extract_tb(error.__traceback__)[-1:]
    is_own = any(Path(line.filename).is_relative_to(PACKAGE) for line in raised_at)
    if isinstance(error, UsageError) or (isinstance(error, ValueError) and is_own):
        return message
    if not message:
        return describe_error(error)
    place = ''.join(f' ({Path(line.filename).name}:{line.lineno})' for line in raised_at)
    return f'{type(error).__name__}: {message}{place}'


def suggest_registered(name: str, registry: Registry) -> str:
    """Return the end of an error message about a name that is not registered.

    Args:
        name (str): the unknown name, with or without a scope.
        registry (Registry): the registry of the current scope. Its root and the other scopes are searched too.

    Returns:
        str: the closest name, with its scope if it is of another one; how to register a class if no name is similar.
    """
    full_names: dict[str, str] = {}
    root = _root_of(registry)
    for other in (root, *root.children.values()):
        other.import_from_location()
        prefix = '' if other.scope in (registry.scope, root.scope) else f'{other.scope}.'
        for known in other.module_dict:
            if known not in full_names or not prefix:
                full_names[known] = prefix + known
    closest = closest_name(name.rpartition('.')[2], full_names)
    if closest:
        return f'; did you mean {full_names[closest]!r}?'
    return '. A class of your own needs its module in custom_imports'


def _root_of(registry: Registry) -> Registry:
    return registry if registry.parent is None else _root_of(registry.parent)


def _registries() -> Iterator[Registry]:
    for value in vars(mmengine.registry).values():
        if isinstance(value, Registry):
            yield value
            yield from value.children.values()


def _find_registry(scope: str | None, kind: str) -> Registry | None:
    """Find a registry by the names in an error message of MMEngine, such as mmdet and model."""
    for registry in _registries():
        if registry.name == kind and scope in (registry.scope, None):
            return registry
    return None


def _registered_arguments(called: str) -> list[str]:
    """List the arguments of the registered classes and functions with this qualified name."""
    name = called.removesuffix('.__init__')
    arguments: dict[str, None] = {}
    for registry in _registries():
        for value in registry.module_dict.values():
            if getattr(value, '__qualname__', '') == name:
                arguments |= dict.fromkeys(argument_names(value))
    return list(arguments)
