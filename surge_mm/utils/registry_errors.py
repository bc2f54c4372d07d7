"""What MMEngine's registries and the constructors behind them raise, as a sentence with the way out."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from mmengine.registry import Registry

from surge_mm.utils.argument_checks import accepted, did_you_mean, near, parameters
from surge_mm.utils.errors import UsageError

UNEXPECTED = re.compile(r"([\w.<>]+)\(\) got an unexpected keyword argument '(\w+)'")
NOT_REGISTERED = re.compile(r'(\S+) is not in the (\w+)::(.+?) registry')
NOT_FOUND = 'in registry under scope'
NO_TYPE = 'must contain the key "type"'
PACKAGE = Path(__file__).parents[1]
PLAIN = (str, int, float, bool, type(None))


def explain(error: BaseException) -> str:
    """What ``error``, raised while something was built from a config, says to the author of the config.

    - An argument that does not exist: the message, and which one may be meant.
    - A name that is in no registry, and a dict without a type: likewise.
    - What our own code refuses: its message, with the hint of the error that it was made of.
    - Else: the message, where it was raised, and which arguments the innermost constructor had that are not its
      defaults, for the message of a host seldom names the argument.
    """
    first = _first(error)
    frames = [frame for frame, _ in traceback.walk_tb(first.__traceback__)]
    said, message = _message(error), _message(first)
    values = frames[-1].f_locals if frames else {}
    registry = next((one for one in values.values() if isinstance(one, Registry)), None)
    if match := UNEXPECTED.search(message):
        names = [*_passed_on_by(match[2], frames), *_arguments_of(match[1], values, frames)]
        return said + did_you_mean(match[2], list(dict.fromkeys(names))) if names else said
    if registry is not None and (match := NOT_REGISTERED.search(message)):
        return said.replace(message, match[0]) + near_name(match[1], registry)
    sought = [value for key, value in values.items() if key.endswith('_type')]
    if registry is not None and NOT_FOUND in message and sought:  # mmcv.cnn leaves the name out
        hint = near_name(str(sought[0]), registry)
        return said.replace(message, f'{sought[0]} is no layer') + hint
    if NO_TYPE in message and isinstance(values.get('cfg'), Mapping):
        close = near('type', values['cfg'])
        hint = f"; did you mean 'type' by {close!r}?" if close else ''
        return said.replace(message, f'{dict(values["cfg"])} has no type{hint}')
    if isinstance(error, UsageError) or (isinstance(error, ValueError) and _is_ours(frames)):
        return said
    return f'{type(error).__name__}: {said}{_where(frames)}'


def _first(error: BaseException) -> BaseException:
    """The error that ``error`` was made of, whose message it repeats."""
    while True:
        before = error.__cause__ or error.__context__
        if before is None or not _message(before) or _message(before) not in _message(error):
            return error
        error = before


def _is_ours(frames: list[FrameType]) -> bool:
    return bool(frames) and Path(frames[-1].f_code.co_filename).is_relative_to(PACKAGE)


def _message(error: BaseException) -> str:
    # a KeyError puts quotes round what it has to say
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)


def _arguments_of(called: str, values: Mapping[str, Any], frames: list[FrameType]) -> list[str]:
    """What the function or class takes that was called by the wrong arguments; Python gives its name alone."""
    holder, _, method = called.rpartition('.')
    around = frames[-1].f_globals.values() if frames else ()
    for value in [*values.values(), *around]:
        if inspect.isfunction(value) and value.__qualname__ == called:
            return accepted(value)
        cls = value if isinstance(value, type) else type(value)
        if any(base.__qualname__ == holder for base in cls.__mro__):
            return (
                [*accepted(cls), 'type'] if method == '__init__' else accepted(getattr(cls, method))
            )
    return []


def _passed_on_by(key: str, frames: list[FrameType]) -> Iterator[str]:
    """The arguments of the functions that took ``key`` among those that they do not know, and passed it on."""
    for frame in frames:
        code = frame.f_code
        if code.co_flags & inspect.CO_VARKEYWORDS:
            info = inspect.getargvalues(frame)
            if key in info.locals.get(str(info.keywords), ()):
                count = code.co_argcount + code.co_kwonlyargcount
                yield from (name for name in code.co_varnames[:count] if name != 'self')


def near_name(name: str, registry: Registry) -> str:
    """The end of a sentence that says that ``name`` is in no registry of that kind: what may be meant."""
    root = registry
    while root.parent is not None:
        root = root.parent
    full: dict[str, str] = {}
    for one in (root, *root.children.values()):
        one.import_from_location()
        prefix = '' if one.scope in (registry.scope, root.scope) else f'{one.scope}.'
        for known in one.module_dict:
            if known not in full or not prefix:
                full[known] = prefix + known
    close = near(name.rpartition('.')[2], full)
    if close:
        return f'; did you mean {full[close]!r}?'
    return '. A class of your own needs its module in custom_imports'


def _where(frames: list[FrameType]) -> str:
    """The innermost place of the traceback, and what the innermost constructor was given."""
    if not frames:
        return ''
    place = f'{Path(frames[-1].f_code.co_filename).name}:{frames[-1].f_lineno}'
    for frame in reversed(frames):
        if frame.f_code.co_name == '__init__' and 'self' in frame.f_locals:
            cls = type(frame.f_locals['self'])
            given = ', '.join(_given(cls, frame))
            return f' ({place}, in {cls.__name__}({given}))'
    return f' ({place})'


def _given(cls: type, frame: FrameType) -> Iterator[str]:
    # of the class, which may pass other arguments to the constructor of a base
    defaults = {one.name: one.default for one in reversed([*parameters(cls)])}
    count = frame.f_code.co_argcount + frame.f_code.co_kwonlyargcount
    for name in frame.f_code.co_varnames[1:count]:
        value: Any = frame.f_locals.get(name)
        items = value if isinstance(value, (list, tuple)) else [value]
        if all(isinstance(one, PLAIN) for one in items) and value != defaults.get(name):
            yield f'{name}={value!r}'
