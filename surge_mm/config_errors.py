"""What MMEngine's registries and the constructors behind them raise, as a sentence with the way out."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import mmengine.registry
from mmengine.registry import Registry

from surge_mm.arguments import accepted, did_you_mean, near
from surge_mm.errors import UsageError

UNEXPECTED = re.compile(r"([\w.<>]+)\(\) got an unexpected keyword argument '(\w+)'")
NOT_REGISTERED = re.compile(r'(\S+) is not in the (\w+)::(.+?) registry')
NOT_FOUND = re.compile(r'Cannot find .* in registry under scope')
PLAIN = (str, int, float, bool, type(None))


def explain(error: BaseException) -> str:
    """What ``error``, raised while something was built from a config, says to the author of the config.

    - An argument that does not exist: the message, and which one may be meant.
    - A name that is in no registry: likewise.
    - What our own code refuses: its message, with the hint of the error that it was made of.
    - Else: the message, where it was raised, and which arguments the innermost constructor had that are not its
      defaults, for the message of a host seldom names the argument.
    """
    first = error
    while first.__cause__ is not None:
        first = first.__cause__
    said = _message(error)
    frames = [frame for frame, _ in traceback.walk_tb(first.__traceback__)]
    message = _message(first)
    if match := UNEXPECTED.search(message):
        names = _arguments_of(match[1], frames[-1]) if frames else []
        return said + did_you_mean(match[2], names) if names else said
    if match := NOT_REGISTERED.search(message):
        hint = near_name(match[1], match[3], match[2])
        return said.replace(message, match[0]) + hint
    if NOT_FOUND.search(message) and frames:  # of mmcv.cnn, which forgets to say what it looked for
        name = next((v for k, v in frames[-1].f_locals.items() if k.endswith('layer_type')), None)
        if isinstance(name, str):
            return said.replace(message, f'{name} is no layer') + near_name(name, 'model', None)
    if isinstance(error, UsageError):
        return said
    return f'{type(error).__name__}: {said}{_where(frames)}'


def _message(error: BaseException) -> str:
    # a KeyError puts quotes round what it has to say
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)


def _arguments_of(called: str, caller: FrameType) -> list[str]:
    """What the function or class takes that ``caller`` called by the wrong arguments; Python gives its name alone."""
    holder, _, method = called.rpartition('.')
    for value in [*caller.f_locals.values(), *caller.f_globals.values()]:
        if inspect.isfunction(value) and value.__qualname__ == called:
            return accepted(value)
        cls = value if isinstance(value, type) else type(value)
        if any(base.__qualname__ == holder for base in cls.__mro__):
            return accepted(cls if method == '__init__' else getattr(cls, method))
    return []


def near_name(name: str, kind: str, scope: str | None) -> str:
    """The end of a sentence that says that ``name`` is in no registry of that kind: what may be meant."""
    bare = name.rpartition('.')[2]
    full = {}
    for registry in _registries(kind):
        prefix = '' if registry.scope in (scope, 'mmengine') else f'{registry.scope}.'
        for known in registry.module_dict:
            if known not in full or not prefix:
                full[known] = prefix + known
    close = near(bare, full, cutoff=0.7)
    hint = f'; did you mean {full[close]!r}?' if close else '.'
    return (
        f'{hint} What is registered elsewhere needs its scope before its name, such as '
        "'surge_mm.SurgeConv2d', or its module in custom_imports"
    )


def _registries(kind: str) -> Iterator[Registry]:
    for root in vars(mmengine.registry).values():
        if isinstance(root, Registry) and root.name == kind:
            for registry in (root, *root.children.values()):
                registry.import_from_location()
                yield registry


def _where(frames: list[FrameType]) -> str:
    """The innermost place of the traceback, and what the innermost constructor was given."""
    if not frames:
        return ''
    place = f'{Path(frames[-1].f_code.co_filename).name}:{frames[-1].f_lineno}'
    for frame in reversed(frames):
        if frame.f_code.co_name == '__init__':
            cls = type(frame.f_locals['self'])
            given = ', '.join(_given(cls, frame))
            return f' ({place}, in {cls.__name__}({given}))'
    return f' ({place})'


def _given(cls: type, frame: FrameType) -> Iterator[str]:
    defaults = {
        name: one.default for name, one in inspect.signature(cls).parameters.items()
    }  # of the class, which may pass other arguments to the constructor of a base
    count = frame.f_code.co_argcount + frame.f_code.co_kwonlyargcount
    for name in frame.f_code.co_varnames[1:count]:
        value: Any = frame.f_locals.get(name)
        items = value if isinstance(value, (list, tuple)) else [value]
        if all(isinstance(one, PLAIN) for one in items) and value != defaults.get(name):
            yield f'{name}={value!r}'
