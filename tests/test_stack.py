"""Each fault of the installed packages is reported in one sentence with the command that repairs it."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from surge_mm import _stack

WORKING = {
    'torch': '2.12.0+cu130',
    'torchvision': '0.27.0',
    'mmengine': '0.10.7',
    'mmcv-lite': '2.1.0',
    'mmdet': '3.3.0',
    'mmpretrain': '1.2.0',
    'setuptools': '80.8.0',
}
# as in the METADATA of the releases
REQUIRES = {
    ('mmdet', '3.3.0'): "mmcv <2.2.0,>=2.0.0rc4 ; extra == 'mim'",
    ('torchvision', '0.27.0'): 'torch (==2.12.0)',
    ('onedl-mmdetection', '3.5.1'): "onedl-mmcv>=2.0.0; extra == 'mminstall'",
}

Fault = Callable[..., str]


def install(folder: Path, dists: dict[str, str]) -> None:
    for name, version in dists.items():
        info = folder / f'{name.replace("-", "_")}-{version}.dist-info'
        info.mkdir(parents=True)
        requires = REQUIRES.get((name, version))
        lines = ['Metadata-Version: 2.1', f'Name: {name}', f'Version: {version}']
        lines += [f'Requires-Dist: {requires}'] if requires else []
        (info / 'METADATA').write_text('\n'.join(lines) + '\n')


@pytest.fixture
def fault_of(tmp_path: Path) -> Fault:
    """Return a function that installs the working stack with some changes (None removes) and returns its fault."""

    def fault_of(changes: dict[str, str | None]) -> str:
        stack = {name: version for name, version in {**WORKING, **changes}.items() if version}
        install(tmp_path, stack)
        if stack.get('setuptools', '82') < '82':
            (tmp_path / 'pkg_resources.py').touch()
        return _stack.find_fault([str(tmp_path)])

    return fault_of


@pytest.mark.parametrize(
    'changes',
    [
        {},
        {'torch': '2.12.0'},
        {'mmcv-lite': None, 'mmcv': '2.1.0'},
        {'mmcv-lite': None, 'mmcv': '2.0.0rc4'},
        {
            'mmcv-lite': None,
            'mmdet': None,
            'mmpretrain': None,
            'onedl-mmcv': '2.3.6',
            'onedl-mmdetection': '3.5.1',
            'onedl-mmpretrain': '1.3.6',
        },
    ],
    ids=['pinned', 'cpu', 'full mmcv', 'oldest mmcv', 'maintained forks'],
)
def test_a_working_stack_has_no_fault(fault_of: Fault, changes: dict[str, str | None]) -> None:
    assert fault_of(changes) == ''


@pytest.mark.parametrize(
    ('changes', 'fault', 'command'),
    [
        ({'torch': None}, 'needs torch', 'pip install torch=='),
        ({'torch': '2.5.1'}, 'torch 2.6 or later, not 2.5.1', 'pip install torch=='),
        ({'torchvision': None}, 'needs torchvision', 'torchvision=='),
        (
            {'torch': '2.13.0+cpu'},
            'torchvision 0.27.0 does not accept torch 2.13.0+cpu: it requires ==2.12.0',
            'pip install torch==2.12.0 torchvision==0.27.0',
        ),
        ({'mmengine': None}, 'needs mmengine', 'pip install "mmengine'),
        ({'mmengine': '0.10.3'}, 'mmengine 0.10.7 or later, not 0.10.3', 'pip install "mmengine'),
        ({'mmdet': None}, 'needs mmdet', 'pip install "mmdet>=3.3.0,<3.4"'),
        ({'mmdet': '2.28.2'}, 'mmdet 3.3.0 or later, not 2.28.2', 'pip install "mmdet'),
        ({'mmpretrain': None}, 'needs mmpretrain', 'pip install "mmpretrain'),
        ({'mmcv-lite': None}, 'needs mmcv, which is not installed', 'pip install mmcv-lite==2.1.0'),
        (
            {'mmcv-lite': None, 'mmcv': '2.2.0'},
            'mmdet 3.3.0 does not accept mmcv 2.2.0: it requires <2.2.0,>=2.0.0rc4',
            'pip uninstall -y mmcv && pip install mmcv-lite==2.1.0',
        ),
        (
            {'mmcv-lite': None, 'mmcv-full': '1.7.2'},
            'does not accept mmcv-full 1.7.2',
            'pip uninstall -y mmcv-full',
        ),
        (
            {'mmcv-lite': None, 'onedl-mmcv': '2.3.6'},
            'mmdet 3.3.0 does not accept onedl-mmcv 2.3.6',
            'pip uninstall -y onedl-mmcv',
        ),
        (
            {'mmcv': '2.1.0'},
            'mmcv 2.1.0 and mmcv-lite 2.1.0 are installed over each other in one folder mmcv/',
            'pip uninstall -y mmcv mmcv-lite. Run: pip install mmcv-lite==2.1.0',
        ),
        ({'onedl-mmdetection': '3.5.1'}, 'installed over each other', 'pip uninstall -y mmdet'),
        ({'setuptools': None}, 'needs pkg_resources', 'pip install "setuptools<82"'),
        ({'setuptools': '82.0.0'}, 'no longer has pkg_resources', 'pip install "setuptools<82"'),
    ],
)
def test_a_fault_is_reported_with_the_command_that_repairs_it(
    fault_of: Fault, changes: dict[str, str | None], fault: str, command: str
) -> None:
    message = fault_of(changes)
    assert fault in message
    assert command in message
    assert '\n' not in message


def test_operators_that_do_not_load_are_reported_with_the_reason(monkeypatch) -> None:
    def fail() -> None:
        raise RuntimeError('operator torchvision::nms does not exist')

    monkeypatch.setattr(_stack, 'operators_load', lambda: False)
    monkeypatch.setattr('torchvision.extension._assert_has_ops', fail)
    with pytest.raises(_stack.StackError, match='operator torchvision::nms does not exist') as info:
        _stack.check_stack()
    assert '--force-reinstall' in str(info.value)


def test_a_module_without_a_record_is_accepted(fault_of: Fault, tmp_path: Path) -> None:
    (tmp_path / 'mmdet').mkdir()
    (tmp_path / 'mmdet' / '__init__.py').touch()
    assert fault_of({'mmdet': None, 'mmcv-lite': None, 'onedl-mmcv': '2.3.6'}) == ''


def test_of_two_folders_the_first_on_the_path_counts(tmp_path: Path) -> None:
    site, user = tmp_path / 'site', tmp_path / 'user'
    install(site, {**WORKING, 'mmcv-lite': '2.2.0'})
    install(user, {'mmcv': '2.1.0'})
    (site / 'pkg_resources.py').touch()
    assert _stack.find_fault([str(user), str(site)]) == ''
    assert 'does not accept mmcv-lite 2.2.0' in _stack.find_fault([str(site), str(user)])


def test_import_stops_at_the_fault_before_anything_heavy(tmp_path: Path) -> None:
    install(tmp_path, {**WORKING, 'torch': '2.5.1'})
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
try:
    import surge_mm
except ImportError as error:
    print(type(error).__name__, error)
print('mmengine' in sys.modules, 'torch' in sys.modules)
"""
    message = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, check=True
    )
    sentence, loaded = message.stdout.splitlines()
    assert sentence.startswith('StackError surge_mm needs torch 2.6 or later, not 2.5.1.')
    assert loaded == 'False False'


def test_the_oldest_versions_are_those_of_the_requirements() -> None:
    text = (Path(__file__).parents[1] / 'requirements' / 'runtime.txt').read_text()
    for module, oldest in _stack.OLDEST.items():
        assert re.search(rf'^{module}>={re.escape(oldest)}\b', text, re.MULTILINE)
