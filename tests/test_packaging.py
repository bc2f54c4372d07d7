"""A wheel carries configs and tools, and MMEngine finds them there and in a checkout."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.hub import get_config

import surge_mm.compat.config_prefix

ROOT = Path(__file__).parents[1]


def tracked(*paths: str) -> list[str]:
    """What git has or would take: a file that is new and not yet added is of the next wheel too."""
    listed = subprocess.run(
        ['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard', '--', *paths],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [name for name in listed.split('\0') if name and os.path.lexists(ROOT / name)]


@pytest.fixture(scope='module')
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the tracked files, into which nothing else may leak."""
    source = tmp_path_factory.mktemp('source')
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name, follow_symlinks=False)
    wheels = tmp_path_factory.mktemp('wheels')
    subprocess.run(
        [sys.executable, '-m', 'pip', 'wheel', '--no-deps', '--no-build-isolation', '-q']
        + ['-w', str(wheels), str(source)],
        check=True,
    )
    assert not (source / 'build').exists(), 'old files in it would go into the next wheel'
    (built,) = wheels.glob('surge_mm-*.whl')
    return built


@pytest.fixture(scope='module')
def names(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_carries_the_configs_the_tools_and_the_index(names: set[str]) -> None:
    wanted = {f'surge_mm/.mim/{name}' for name in tracked('configs', 'tools', 'model-index.yml')}
    carried = {name for name in names if name.startswith('surge_mm/.mim/')}
    assert carried == wanted


def test_the_wheel_carries_the_package_and_the_licence_and_no_tests(names: set[str]) -> None:
    modules = {name for name in tracked('surge_mm') if name.endswith('.py')}
    assert {name for name in names if name.endswith('.py') and '/.mim/' not in name} == modules
    assert any(name.endswith('LICENSE') for name in names)
    assert not any('tests/' in name or name.endswith('.pyc') for name in names)


def requirements(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith('/METADATA'))
        lines = archive.read(metadata).decode().splitlines()
    return [line for line in lines if line.startswith('Requires-Dist: ')]


def test_the_wheel_does_not_require_any_mmcv_except_as_an_extra(wheel: Path) -> None:
    requires = requirements(wheel)
    assert any('mmdet' in line for line in requires)
    assert all('extra == ' in line for line in requires if 'mmcv' in line)


@pytest.mark.parametrize(
    'extra, packages', [('deploy', {'numba', 'safetensors'}), ('onnx', {'onnx', 'onnxruntime'})]
)
def test_what_errors_say_to_install_is_an_extra_alone(
    extra: str, packages: set[str], wheel: Path
) -> None:
    requires = [line.removeprefix('Requires-Dist: ') for line in requirements(wheel)]
    found = {line.partition(';')[0].strip() for line in requires if f'"{extra}"' in line}
    assert found == packages
    assert not packages & {line for line in requires if 'extra == ' not in line}


def test_every_requirement_has_a_pinned_version() -> None:
    files = ROOT / 'requirements'
    pinned = {
        line.partition('==')[0]
        for line in (files / 'constraints.txt').read_text().splitlines()
        if not line.startswith('#')
    }
    for file in files.glob('*.txt'):
        lines = [line for line in file.read_text().splitlines() if not line.startswith('#')]
        assert {re.split('[=<> ]', line)[0] for line in lines} <= pinned, file.name


def test_configs_resolve_in_an_unpacked_wheel_outside_the_checkout(
    wheel: Path, tmp_path: Path
) -> None:
    site = tmp_path / 'site'
    zipfile.ZipFile(wheel).extractall(site)
    (site / 'surge_mm/.mim/configs/probe').mkdir(parents=True)
    (site / 'surge_mm/.mim/configs/probe/base.py').write_text('in_wheel = True\n')
    (tmp_path / 'leaf.py').write_text("_base_ = 'surge_mm::probe/base.py'\n")
    code = f"""
import sys
sys.path.insert(0, {str(site)!r})
import surge_mm
from mmengine.config import Config
from mmengine.hub import get_config
print(surge_mm.__file__)
print(Config.fromfile('leaf.py').in_wheel, get_config('surge_mm::probe/base.py').in_wheel)
"""
    # -I: neither PYTHONPATH nor the current folder stands before the unpacked wheel.
    said = subprocess.run(
        [sys.executable, '-I', '-c', code], cwd=tmp_path, capture_output=True, text=True
    )
    assert said.returncode == 0, said.stderr
    file, found = said.stdout.splitlines()[-2:]
    assert Path(file).is_relative_to(site)
    assert found == 'True True'


def test_every_config_of_the_checkout_resolves_by_its_package_path() -> None:
    for name in tracked('configs'):
        base = name.replace('configs/', 'surge_mm::', 1)
        found, scope = Config._get_cfg_path(base, 'leaf.py')
        assert Path(found).samefile(ROOT / name)
        assert scope is None


def test_a_base_of_this_package_keeps_the_scope_of_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'configs' / 'probe').mkdir(parents=True)
    (tmp_path / 'configs' / 'probe' / 'base.py').write_text(
        "_base_ = 'mmdet::_base_/models/retinanet_r50_fpn.py'\n"
        "train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)\n"
    )
    monkeypatch.setattr(surge_mm.compat.config_prefix, 'MIM_ROOT', tmp_path)
    leaf = tmp_path / 'leaf.py'
    leaf.write_text("_base_ = 'surge_mm::probe/base.py'\n")
    cfg = Config.fromfile(leaf)
    assert cfg.model._scope_ == 'mmdet'
    assert '_scope_' not in cfg.train_cfg


def test_a_base_that_is_not_there_is_named(tmp_path: Path) -> None:
    leaf = tmp_path / 'leaf.py'
    leaf.write_text("_base_ = 'surge_mm::no/such.py'\n")
    with pytest.raises(FileNotFoundError, match=r"leaf\.py: _base_ 'surge_mm::no/such\.py'"):
        Config.fromfile(leaf)
    with pytest.raises(FileNotFoundError, match='such.py'):
        get_config('surge_mm::no/such.py')
