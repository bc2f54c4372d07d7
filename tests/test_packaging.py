"""A wheel contains configs and tools, which MMEngine finds there and in a checkout, and no benchmarks."""

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
from surge_mm.__main__ import TOOLS

ROOT = Path(__file__).parents[1]


def tracked(*paths: str) -> list[str]:
    """Return the tracked files and those that git does not ignore, which the next wheel contains too."""
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
    """Build a wheel from a copy of the tracked files, so that no other file gets into it."""
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
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into a folder, as pip does: unpack it."""
    site = tmp_path_factory.mktemp('site')
    zipfile.ZipFile(wheel).extractall(site)
    return site


def run_installed(code: str, site: Path, folder: Path) -> str:
    """Run code in ``folder`` with the installed package alone, and return its output."""
    code = f'import sys\nsys.path.insert(0, {str(site)!r})\n{code}'
    # -I: neither PYTHONPATH nor the current folder comes before the installed package
    result = subprocess.run(
        [sys.executable, '-I', '-c', code], cwd=folder, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope='module')
def names(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_contains_the_configs_the_tools_and_the_index(names: set[str]) -> None:
    wanted = {f'surge_mm/.mim/{name}' for name in tracked('configs', 'tools', 'model-index.yml')}
    assert {name for name in names if name.startswith('surge_mm/.mim/')} == wanted


def test_the_wheel_contains_the_package_and_the_license_and_nothing_else(names: set[str]) -> None:
    modules = {name for name in tracked('surge_mm') if name.endswith('.py')}
    assert {name for name in names if name.endswith('.py') and '/.mim/' not in name} == modules
    assert 'surge_mm/deploy/packed_file/allowed_classes.txt' in names
    assert any(name.endswith('LICENSE') for name in names)
    assert not any('tests/' in name or name.endswith('.pyc') for name in names)
    top = {name.partition('/')[0] for name in names}
    assert {name for name in top if not name.endswith('.dist-info')} == {'surge_mm'}


def test_the_wheel_has_a_command_that_finds_its_tools(wheel: Path, site: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (entries,) = (name for name in archive.namelist() if name.endswith('/entry_points.txt'))
        text = archive.read(entries).decode()
    assert text.split('\n')[1:2] == ['surge-mm = surge_mm.__main__:main']
    assert (site / 'surge_mm/__main__.py').is_file()
    assert (site / 'surge_mm' / TOOLS.relative_to(ROOT / 'surge_mm') / 'train.py').is_file()


def test_mim_finds_configs_and_tools_of_an_installed_wheel(site: Path, tmp_path: Path) -> None:
    pytest.importorskip('mim')
    environment = {**os.environ, 'PYTHONPATH': str(site)}

    def mim(*words: str) -> str:
        command = [sys.executable, '-c', 'from mim.cli import cli; cli()', *words]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert 'surge_fcos-1bit_r18-light_10e_digits' in mim('search', 'surge_mm', '--valid-config')
    assert 'surge-mm' in mim('list')
    config = 'surge_fcos-1bit_r18-light_10e_digits.py'
    output = mim('run', 'surge_mm', 'get_ops', f'{site}/surge_mm/.mim/configs/demo/{config}')
    assert ' OPs in full precision' in output
    # the config is found by its name; its data is missing, so nothing is trained
    command = [sys.executable, '-c', 'from mim.cli import cli; cli()', 'train', 'surge_mm', config]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert f'{site}/surge_mm/.mim/tools/train.py' in done.stdout
    assert 'data/digits' in done.stderr and 'error: ' in done.stderr


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
    'extra, packages',
    [
        ('c', {'ziglang'}),
        ('deploy', {'numba', 'safetensors'}),
        ('language', {'tokenizers'}),
        ('onnx', {'onnx', 'onnxruntime'}),
    ],
)
def test_packages_that_errors_ask_to_install_are_extras_alone(
    extra: str, packages: set[str], wheel: Path
) -> None:
    requires = [line.removeprefix('Requires-Dist: ') for line in requirements(wheel)]
    found = {re.split('[ ;<>=]', line)[0] for line in requires if f'"{extra}"' in line}
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


def test_configs_resolve_in_an_installed_wheel_outside_the_checkout(
    site: Path, tmp_path: Path
) -> None:
    (site / 'surge_mm/.mim/configs/probe').mkdir()
    (site / 'surge_mm/.mim/configs/probe/base.py').write_text('in_wheel = True\n')
    (tmp_path / 'leaf.py').write_text("_base_ = 'surge_mm::probe/base.py'\n")
    output = run_installed(
        """
import surge_mm
from mmengine.config import Config
from mmengine.hub import get_config
print(surge_mm.__file__)
print(Config.fromfile('leaf.py').in_wheel, get_config('surge_mm::probe/base.py').in_wheel)
""",
        site,
        tmp_path,
    )
    file, found = output.splitlines()[-2:]
    assert Path(file).is_relative_to(site)
    assert found == 'True True'


def test_every_tool_of_an_installed_wheel_prints_its_help_outside_the_checkout(
    site: Path, tmp_path: Path
) -> None:
    tools = sorted(str(file) for file in (site / 'surge_mm/.mim/tools').glob('*.py'))
    assert len(tools) == len([name for name in tracked('tools') if name.endswith('.py')])
    output = run_installed(
        f"""
import runpy
for tool in {tools!r}:
    sys.argv = [tool, '--help']
    try:
        runpy.run_path(tool, run_name='__main__')
    except SystemExit as done:
        print('status', done.code)
import surge_mm
print(surge_mm.__file__)
print([name for name in sys.modules if name.startswith('benchmark')])
""",
        site,
        tmp_path,
    )
    *helps, file, benchmarks = output.splitlines()
    assert helps.count('status 0') == len(tools)
    assert sum(line.startswith('usage: ') for line in helps) == len(tools)
    assert Path(file).is_relative_to(site)
    assert benchmarks == '[]'


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
