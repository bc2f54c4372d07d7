"""The API reference has the modules of all names that packages export; the docs build checks it name by name."""

import importlib
import re

import pytest
from helpers.documents import ROOT

DOCUMENTED = {
    module
    for page in (ROOT / 'docs/api').glob('*.md')
    for module in re.findall(r'^\.\. automodule:: (\S+)$', page.read_text(), re.MULTILINE)
}
PACKAGES = (
    'surge_mm',
    'surge_mm.layers',
    'surge_mm.ops',
    'surge_mm.models',
    'surge_mm.hooks',
    'surge_mm.runner',
    'surge_mm.deploy',
)


@pytest.mark.parametrize('package', PACKAGES)
def test_every_exported_name_is_in_a_module_of_the_api_reference(package: str) -> None:
    exporting = importlib.import_module(package)
    missing = {}
    for name in exporting.__all__:
        module = getattr(getattr(exporting, name), '__module__', package)
        reexports = {
            module,
            *(
                page
                for page in DOCUMENTED
                if name in getattr(importlib.import_module(page), '__all__', ())
            ),
        }
        if name != '__version__' and not reexports & DOCUMENTED:
            missing[name] = module
    assert not missing
