"""The cache of compiled loops: old machine code is not loaded after a change of any of their sources."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import surge_mm

pytest.importorskip('numba')
from numba.core import caching, config  # noqa: E402

from surge_mm.deploy.cpu import kernel_cache, kernels  # noqa: E402  need Numba

FOLDER = kernel_cache.FOLDER

LOADS = """if True:
    from surge_mm.deploy.cpu import kernels
    print(kernels.__file__, kernels.run_parts.cache_hits)
"""


def test_loops_are_compiled_again_after_a_change_of_a_module_that_they_use(tmp_path):
    package = tmp_path / 'surge_mm'
    ignored = shutil.ignore_patterns('__pycache__')
    shutil.copytree(Path(surge_mm.__file__).parent, package, ignore=ignored)
    compiled = package / 'deploy/cpu/__pycache__'
    compiled.mkdir()
    locator = caching.FunctionCache(kernels.convolve.py_func)._impl.locator
    for file in Path(locator.get_cache_path()).glob('kernels.*.nb[ci]'):
        shutil.copy(file, compiled)
    environment = {**os.environ, 'PYTHONPATH': str(tmp_path), 'NUMBA_CACHE_DIR': ''}

    def cache_hits():
        command = [sys.executable, '-c', LOADS]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, env=environment
        )
        file, hits = done.stdout.split() or ('', done.stderr)
        assert file == str(package / 'deploy/cpu/kernels.py'), hits
        return int(hits)

    assert cache_hits() == 1
    with (package / 'deploy/cpu/tile_codegen.py').open('a') as source:
        source.write('# changed\n')
    assert cache_hits() == 0


@pytest.mark.parametrize('folder', ['', 'cache'])
def test_the_stamp_is_that_of_all_sources_in_every_folder(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(config, 'CACHE_DIR', str(tmp_path / folder) if folder else '')
    locator = caching.FunctionCache(kernels.convolve.py_func)._impl.locator
    assert locator.get_source_stamp() == kernel_cache.source_hash()
    assert locator.get_cache_path().startswith(str(tmp_path if folder else FOLDER))


def test_functions_of_other_files_have_the_stamp_of_numba(tmp_path, monkeypatch):
    monkeypatch.setattr(config, 'CACHE_DIR', str(tmp_path))
    locator = caching.FunctionCache(imported_by)._impl.locator
    assert type(locator) is caching.UserProvidedCacheLocator


def imported_by(name):
    """Return the modules of the folder that a module needs, itself included."""
    found = {name}
    for other in re.findall(
        r'^from surge_mm\.deploy\.cpu\.(\w+) import', (FOLDER / name).read_text(), re.M
    ):
        found |= imported_by(f'{other}.py')
    return found


def test_the_stamp_is_of_each_module_that_makes_machine_code(tmp_path, monkeypatch):
    assert imported_by('kernels.py') - {'kernel_cache.py'} == set(kernel_cache.SOURCES)
    for name in kernel_cache.SOURCES:
        shutil.copy(FOLDER / name, tmp_path)
    monkeypatch.setattr(kernel_cache, 'FOLDER', tmp_path)
    stamps = {kernel_cache.source_hash.__wrapped__()}
    for name in kernel_cache.SOURCES:
        (tmp_path / name).write_text((tmp_path / name).read_text() + '\n')
        stamps.add(kernel_cache.source_hash.__wrapped__())
    assert len(stamps) == 1 + len(kernel_cache.SOURCES)
