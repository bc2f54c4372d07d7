"""Bad configs and arguments

Each key of ours (the arguments of everything that surge_mm registers, of the binarizers, and what stands in
`compensator`, `rules` and `custom_keys`) was misspelt by a letter left out, written twice or changed in its place, and
was given values of other types and out of range: None, numbers, words, lists, dicts, NaN and infinity, and what lies
just beyond its range. Of the keys that a class of ours hands on to MMDetection or MMPretrain, the spelling was tried.
The same was done to each key and each `type` of a whole config of MMEngine (model, data loaders, optimizer, schedules,
hooks, loops, ...), to each `type` of more than three letters in our configs, and to each option of the tools.

Each is refused before training: of our own classes in one sentence that names the key and suggests the right one, of
MMEngine's by its constructors. What is not spoilt is built; a whole number where a number is asked for, 0 and 1 for
False and True, and lists for tuples are taken. Variables of an author's own in a config are left alone: no config of
MMDetection and MMPretrain is refused.
"""

import re
from pathlib import Path

import mmdet
import mmpretrain
import pytest
from helpers.bad_configs import misspellings, misspelt, spoilt, targets
from helpers.bad_runs import (
    TOOLS,
    WHOLE,
    misspelt_options,
    parser_of,
    places,
    refusal,
    suggests,
    with_key,
    with_value,
)
from helpers.bad_values import wrong_values
from mmengine import registry as registries
from mmengine.config import Config
from mmengine.registry import DefaultScope, Registry

from surge_mm.preflight.config_keys import check_names
from surge_mm.utils.registry_errors import suggest_registered
from surge_mm.utils.suggestions import is_one_edit_apart

CONFIGS = Path(__file__).parents[2] / 'configs'


def test_keys_of_ours(record):
    every = targets()
    assert [target.name for target in every if target.refusal(target.good) is not None] == []
    cases = misspelt(12, seed=1)
    for target, key, wrong in cases:
        said = target.refusal(target.misspelt(key, wrong))
        assert said and f'{key!r}' in said.partition('Known')[0], (target.name, key, wrong, said)
    keys = {(target.name, key) for target, key, _ in cases}
    record(
        f'misspellings of the {len(keys)} keys of {len(every)} classes and dicts of ours',
        len(cases),
        'refused; the right key is suggested, or said to be missing',
    )


def test_values_of_ours(record):
    cases = spoilt(wrong_values)
    for target, key, value in cases:
        said = target.refusal(target.with_key(key, value))
        assert said and key in said, (target.name, key, value, said)
    keys = {(target.name, key) for target, key, _ in cases}
    record(
        f'values of another type or out of range for {len(keys)} of them',
        len(cases),
        'refused; the key and what it takes are named',
    )


def test_keys_of_a_whole_config(record, tmp_path):
    assert refusal(WHOLE, tmp_path) is None
    cases = [
        (path, wrong)
        for path, _ in places()
        if len(path[-1]) > 2
        for wrong in misspellings(path[-1], 8, seed=1)
    ]
    trained = len(list(tmp_path.rglob('*.pth')))
    for path, wrong in cases:
        said = refusal(with_key(path, wrong), tmp_path)
        assert said, (path, wrong)
    assert len(list(tmp_path.rglob('*.pth'))) == trained
    record(
        f'misspellings of the {len({path for path, _ in cases})} keys of a whole config',
        len(cases),
        'refused before the first checkpoint',
    )


def test_types_of_a_whole_config(record, tmp_path):
    cases = [
        (path, name, wrong)
        for path, value in places()
        if path[-1] == 'type' and value != 'norm'
        for name in [value.rpartition('.')[2]]
        for wrong in misspellings(name, 8, seed=1)
    ]
    for path, name, wrong in cases:
        said = refusal(with_value(path, wrong), tmp_path)
        # MMEngine looks these two up without a check, and its error does not name them
        is_unnamed = path[-2] in ('collate_fn', 'optimizer') and said
        assert is_unnamed or suggests(said, name), (path, wrong, said)
    assert not list(tmp_path.rglob('*.pth'))
    record(
        'misspellings of its types',
        len(cases),
        'refused likewise; the right type is suggested, but for those of `collate_fn` and `optimizer`',
    )


def types_in(node):
    if isinstance(node, dict):
        if isinstance(node.get('type'), str):
            yield node['type']
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for part in node:
            yield from types_in(part)


def test_types_in_our_configs(record):
    found: dict[tuple[str, str], Registry] = {}
    for file in CONFIGS.rglob('_base_/**/*.py'):
        if file.parent.name != 'recipes':  # they inherit from the others alone
            cfg = Config.fromfile(file, import_custom_modules=False)
            for name in types_in(cfg.to_dict()):
                for scope in ('mmdet', 'mmpretrain'):
                    registry = registry_of(name, scope)
                    if registry is not None:
                        found[name, scope] = registry
    cases = 0
    for (name, scope), registry in found.items():
        bare = name.rpartition('.')[2]
        for wrong in misspellings(bare, 10, seed=1) if len(bare) > 3 else ():
            with (
                DefaultScope.overwrite_default_scope(scope),
                registry.switch_scope_and_registry(None) as scoped,
            ):
                if scoped.get(wrong) is None and registry_of(wrong, scope) is None:
                    said = suggest_registered(wrong, scoped)
                    assert suggests(said, bare) or as_near(said, wrong), (name, wrong, said)
                    cases += 1
    assert len(found) > 50
    record(
        f'misspellings of the {len({name for name, _ in found})} types in our configs',
        cases,
        'the right one is suggested, or another from which it is one letter away too',
    )


def as_near(said, wrong):
    """``Ada`` may mean Adam and Adan."""
    meant = re.search(r"(\w+)'\?$", said)
    return meant is not None and is_one_edit_apart(wrong, meant[1])


def registry_of(name, scope):
    """Return the kind of registry that holds it. (By a dotted name a registry also finds what Python can import.)"""
    bare = name.rpartition('.')[2]
    for root in vars(registries).values():
        if isinstance(root, Registry) and root.parent is None and scope in root.children:
            ours = root.children.get('surge_mm')
            for registry in (root, root.children[scope], *([ours] if ours else [])):
                registry.import_from_location()
                if bare in registry.module_dict:
                    return root
    return None


def test_options_of_the_tools(record, monkeypatch, capsys):
    cases = 0
    for tool in TOOLS:
        for parse, option, wrong in misspelt_options(parser_of(tool, monkeypatch), 12, seed=1):
            with pytest.raises(SystemExit):
                parse(wrong)
            assert suggests(capsys.readouterr().err, option), (tool, option, wrong)
            cases += 1
    record(
        f'misspelt options of {len(TOOLS)} tools', cases, 'refused; the right option is suggested'
    )


@pytest.mark.parametrize(
    'name, folder',
    [
        ('MMDetection', Path(mmdet.__file__).parent / '.mim/configs'),
        ('MMPretrain', Path(mmpretrain.__file__).parent / '.mim/configs'),
    ],
)
def test_configs_as_they_are(name, folder, record):
    files = [file for file in sorted(folder.rglob('*.py')) if '_base_' not in file.parts]
    checked = 0
    for file in files:
        try:
            cfg = Config.fromfile(file, import_custom_modules=False)
        except (OSError, RuntimeError, KeyError):
            continue  # some of the hosts' inherit from files that their wheels lack
        check_names(cfg)
        checked += 1
    assert checked > 0.95 * len(files)
    record(f'configs of {name} as they are', checked, 'none is refused')
