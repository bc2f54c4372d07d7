"""The cache of compiled loops: old machine code is not loaded after a change of any of their sources."""

import re
import resource
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip('numba')
from numba.core import caching, ccallback, config, types  # noqa: E402

from surge_mm.deploy.cpu import kernel_cache  # noqa: E402  needs Numba
from surge_mm.deploy.cpu.codegen import memory  # noqa: E402

FOLDER = kernel_cache.FOLDER


@pytest.fixture(scope='module')
def kernels():
    """Return the loops of binary layers. The imports compile these and the others, unless they are on disk."""
    from surge_mm.deploy.cpu import byte_kernels, kernels  # noqa: F401

    return kernels


def test_loops_are_compiled_again_after_a_change_of_a_module_that_they_use(
    kernels, tmp_path, monkeypatch
):
    class CompiledError(Exception):
        pass

    def load():
        signature = types.void(types.CPointer(types.int64))
        return kernel_cache.compiled_callback(signature)(kernels.run_parts._pyfunc)

    def compile_uncached(callback):  # takes ten seconds
        raise CompiledError

    monkeypatch.setattr(ccallback.CFunc, '_compile_uncached', compile_uncached)
    assert load().cache_hits == 1
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    with (tmp_path / 'codegen/tiles.py').open('a') as source:
        source.write('# changed\n')
    with monkeypatch.context() as patch:
        patch.setattr(kernel_cache, 'FOLDER', tmp_path)
        changed = kernel_cache.source_hash.__wrapped__()
    monkeypatch.setattr(kernel_cache, 'source_hash', lambda: changed)
    with pytest.raises(CompiledError):
        load()


@pytest.mark.parametrize('folder', ['', 'cache'])
def test_the_stamp_is_that_of_all_sources_in_every_folder(folder, kernels, tmp_path, monkeypatch):
    monkeypatch.setattr(config, 'CACHE_DIR', str(tmp_path / folder) if folder else '')
    locator = caching.FunctionCache(kernels.convolve.py_func)._impl.locator
    assert locator.get_source_stamp() == kernel_cache.source_hash()
    assert locator.get_cache_path().startswith(str(tmp_path if folder else FOLDER))


def test_functions_of_other_files_have_the_stamp_of_numba(tmp_path, monkeypatch):
    monkeypatch.setattr(config, 'CACHE_DIR', str(tmp_path))
    locator = caching.FunctionCache(imported_by)._impl.locator
    assert type(locator) is caching.UserProvidedCacheLocator


def imported_by(name):
    """Return the modules of the folder and its subfolders that a module needs, itself included."""
    found = {name}
    for other in re.findall(
        r'^from surge_mm\.deploy\.cpu\.([\w.]+) import', (FOLDER / name).read_text(), re.M
    ):
        found |= imported_by(f'{other.replace(".", "/")}.py')
    return found


def test_the_stamp_is_of_each_module_that_makes_machine_code(tmp_path, monkeypatch):
    makers = ('kernels.py', 'byte_kernels.py', 'byte_tile_kernels.py', 'operator_kernels.py')
    needed = set().union(*map(imported_by, makers))
    assert needed - {'kernel_cache.py'} == set(kernel_cache.SOURCES)
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(kernel_cache, 'FOLDER', tmp_path)
    stamps = {kernel_cache.source_hash.__wrapped__()}
    for name in kernel_cache.SOURCES:
        (tmp_path / name).write_text((tmp_path / name).read_text() + '\n')
        stamps.add(kernel_cache.source_hash.__wrapped__())
    assert len(stamps) == 1 + len(kernel_cache.SOURCES)


def call_in_a_new_process_of_numba():
    """Compile a small loop, or load it, and call it; return how often the cache on disk had it."""
    keep = kernel_cache.compiled(memory.keep.py_func)
    assert keep(np.zeros(3)) == 3
    return keep.stats.cache_hits.total()


@pytest.mark.parametrize('suffix', ['.nbi', '.nbc'])
def test_a_truncated_file_of_the_cache_is_replaced(suffix, tmp_path, monkeypatch):
    monkeypatch.setattr(config, 'CACHE_DIR', str(tmp_path))
    assert call_in_a_new_process_of_numba() == 0
    (file,) = tmp_path.rglob(f'memory.keep*{suffix}')
    file.write_bytes(file.read_bytes()[:40])
    warnings = []
    monkeypatch.setattr(kernel_cache, 'warn', warnings.append)
    assert call_in_a_new_process_of_numba() == 0
    assert call_in_a_new_process_of_numba() == 1
    (warning,) = warnings
    assert str(file.parent) in warning and 'are compiled again' in warning


def test_an_index_without_its_code_does_not_lead_to_the_code_of_another_version(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(config, 'CACHE_DIR', str(tmp_path))
    monkeypatch.setattr(kernel_cache, 'warn', lambda message: None)
    with monkeypatch.context() as patch:
        patch.setattr(kernel_cache, 'source_hash', lambda: 'an earlier version')
        assert call_in_a_new_process_of_numba() == 0
    with monkeypatch.context() as patch:

        def fail(*arguments):
            raise OSError('no space')

        patch.setattr(caching.IndexDataCacheFile, '_save_data', fail)  # behind the index
        assert call_in_a_new_process_of_numba() == 0
    assert call_in_a_new_process_of_numba() == 0
    assert call_in_a_new_process_of_numba() == 1


def test_loops_are_compiled_without_a_cache_on_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(config, 'CACHE_DIR', str(tmp_path))
    warnings = []
    monkeypatch.setattr(kernel_cache, 'warn', warnings.append)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    deaf = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, limits[1]))
    try:
        assert call_in_a_new_process_of_numba() == 0
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, deaf)
    (warning,) = warnings
    assert 'File too large' in warning and 'NUMBA_CACHE_DIR' in warning


def test_loops_that_no_folder_can_keep_are_reported(tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    monkeypatch.setattr(config, 'CACHE_DIR', str(tmp_path / 'file'))
    monkeypatch.setattr(caching.CacheImpl, '_locator_classes', kernel_cache.LOCATORS[:1])
    monkeypatch.setattr(kernel_cache, 'install_locators', lambda: None)
    warnings = []
    monkeypatch.setattr(kernel_cache, 'warn', warnings.append)
    assert call_in_a_new_process_of_numba() == 0
    (warning,) = warnings
    assert 'no folder for them is writable' in warning and 'NUMBA_CACHE_DIR' in warning


PROGRAM = """
import sys
import numpy as np
from surge_mm.deploy.cpu import byte_kernels, kernels
assert kernels.run_parts.cache_hits == 1
print('numba.np.linalg' in sys.modules)
from numba import njit

@njit
def total(n):
    array = np.arange(n)
    return np.dot(array * 1.0, np.ones(n)) + [array][0].sum()

print(total(5))
"""


def test_loops_are_loaded_without_the_parts_of_a_compilation_which_a_later_one_loads(kernels):
    done = subprocess.run([sys.executable, '-c', PROGRAM], capture_output=True, text=True)
    assert done.stdout.split() == ['False', '20.0'], done.stderr
