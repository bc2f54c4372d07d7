"""``surge_mm.registry``: each location is a module that registers, and nothing registers outside of the locations."""

import ast
import importlib
from pathlib import Path

import pytest
from mmengine.registry import Registry

import surge_mm
from surge_mm import registry
from surge_mm._names import MODELS

PACKAGE = Path(registry.__file__).parent
REGISTRIES = {name: made for name, made in vars(registry).items() if isinstance(made, Registry)}
OURS = {name: made for name, made in REGISTRIES.items() if made.scope == 'surge_mm'}
LOCATIONS = [(name, location) for name, made in OURS.items() for location in made._locations]
ALLOWED = {  # the packages of the registered classes, as the import directions in pyproject.toml allow
    'MODELS': {'models', 'deploy'},
    'DATASETS': {'datasets'},
    'DATA_SAMPLERS': {'datasets'},
    'METRICS': {'datasets'},
    'FUNCTIONS': {'datasets'},
    'HOOKS': {'hooks'},
    'OPTIM_WRAPPERS': {'runner'},
    'RUNNERS': {'runner'},
    'WEIGHT_INITIALIZERS': {'models'},
}


def within(module, package):
    return module == package or module.startswith(f'{package}.')


@pytest.mark.parametrize('name, location', LOCATIONS)
def test_each_location_imports_and_registers(name, location):
    importlib.import_module(location)
    registered = [made.__module__ for made in OURS[name].module_dict.values()]
    assert any(within(module, location) for module in registered)
    assert location.split('.')[1] in ALLOWED[name]


def test_every_registry_has_locations_and_allowed_packages():
    assert OURS.keys() == ALLOWED.keys() == {name for name, _ in LOCATIONS}


def modules_that_register():
    """Each module that imports a registry of ours to register by it, with the name of the registry."""
    for file in PACKAGE.rglob('*.py'):
        if '.mim' in file.parts:
            continue
        module = '.'.join(['surge_mm', *file.relative_to(PACKAGE).with_suffix('').parts])
        for node in ast.walk(ast.parse(file.read_text())):
            decorators = getattr(node, 'decorator_list', [])
            for call in decorators:
                text = ast.unparse(call)
                for name in OURS:
                    if text.startswith(f'{name}.register_module('):
                        yield module.removesuffix('.__init__'), name


def test_a_module_that_registers_lies_within_a_location_of_its_registry():
    found = set(modules_that_register())
    assert len(found) > 15
    orphans = [
        (module, name)
        for module, name in found
        if not any(within(module, location) for location in OURS[name]._locations)
    ]
    assert orphans == []


def test_each_model_is_found_by_its_name_without_the_import_of_all_locations():
    made = registry.MODELS
    made.import_from_location()
    own = [
        name for name, cls in made.module_dict.items() if within(cls.__module__, 'surge_mm.models')
    ]
    assert set(own) == set(MODELS) and len(own) > 10
    assert made.find('FPN') is None


def test_registered_classes_are_names_of_the_package():
    for made in OURS.values():
        made.import_from_location()
        for name, cls in made.module_dict.items():
            if isinstance(cls, type) and cls.__module__.startswith('surge_mm.'):
                assert getattr(surge_mm, name) is cls
