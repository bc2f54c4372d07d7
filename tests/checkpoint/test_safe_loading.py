"""A checkpoint that runs code or is damaged is rejected by an error in one line, and leaves the model unchanged."""

import ast
import io
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from helpers import hostile_checkpoints as hostile
from helpers.hostile_runs import (
    Classifier,
    assert_damage_is_found,
    assert_programs_are_harmless,
    copies,
)
from mmengine.logging import HistoryBuffer
from mmengine.runner import load_checkpoint

from surge_mm.checkpoint.checked import read_checked
from surge_mm.checkpoint.safe_loading import check_is_resumable, load_from_file
from surge_mm.utils.errors import CheckpointError, LaunchError, UsageError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def raw():
    return hostile.saved(hostile.run_state(Classifier()))


@pytest.fixture
def model():
    return Classifier()


@pytest.fixture(autouse=True)
def unchanged_logs():
    """Check after each test that the statistics methods of logs are the original ones."""
    HistoryBuffer()  # sets them
    methods = dict(HistoryBuffer._statistics_methods)
    yield
    assert HistoryBuffer._statistics_methods == methods


def rejects(model, path, match=None):
    """Check that every function that loads it raises an error with its name, and leaves the model unchanged."""
    before = copies(model)
    with hostile.canary() as heard:
        for load in (
            lambda: load_checkpoint(model, str(path)),
            lambda: read_checked(model, str(path)),
            lambda: read_checked(model, str(path), whole=False),
        ):
            with pytest.raises(LaunchError, match=match) as refusal:
                load()
            text = str(refusal.value)
            assert path.name in text and len(text) < 1000 and '\n' not in text
            assert 'weights_only' not in text  # no advice to switch it off
        model.backbone.init_cfg = {
            'type': 'Pretrained',
            'checkpoint': str(path),
            'prefix': 'backbone.',
        }
        model.backbone._is_init = False
        with pytest.raises(UsageError, match=match):
            model.backbone.init_weights()
    assert not heard
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_checkpoint_of_a_run_loads(tmp_path, raw, model):
    path = tmp_path / 'epoch_1.pth'
    path.write_bytes(raw)
    with hostile.canary() as heard:
        load_checkpoint(model, str(path))
        check_is_resumable(read_checked(model, str(path)), str(path))
    assert not heard
    theirs = torch.load(io.BytesIO(raw))['state_dict']
    assert all(torch.equal(value, theirs[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize('legacy', [False, True], ids=['zip', 'legacy'])
@pytest.mark.parametrize('attack', hostile.RUN_CODE)
def test_code_is_not_run(tmp_path, model, attack, legacy):
    path, marker = tmp_path / 'evil.pth', tmp_path / 'marker'
    held = hostile.RUN_CODE[attack](f'touch {marker}')
    path.write_bytes(hostile.saved({'state_dict': model.state_dict(), 'meta': held}, legacy=legacy))
    rejects(model, path)
    assert not marker.exists()
    with hostile.canary() as heard, suppress(TypeError, AttributeError):  # raised afterwards
        torch.load(path, weights_only=False)
    assert heard and marker.exists(), 'the attack must work without protection'


@pytest.mark.parametrize(
    'kind, reason',
    {
        'zip bomb': r'unpack to 17,\d+,\d+ bytes',
        'zip archive without data.pkl': 'Expected hasRecord',
        'TorchScript': 'checkpoints of PyTorch are not compressed',
        **dict.fromkeys(['tar', 'safetensors', 'plain pickle', 'empty file'], 'not a checkpoint'),
        'web page': 'not a checkpoint',
        'truncated': 'not a zip file',
    }.items(),
)
def test_other_files_are_rejected(tmp_path, raw, model, kind, reason):
    path = tmp_path / 'file.pth'
    path.write_bytes(hostile.foreign_files(raw)[kind])
    rejects(model, path, match=f'cannot be read: .*{reason}')


def test_a_rezipped_checkpoint_still_loads(tmp_path, raw, model):
    path = tmp_path / 'again.pth'
    path.write_bytes(hostile.repacked(raw))
    load_checkpoint(model, str(path))


def test_damaged_files_are_rejected_or_load_unchanged_weights(tmp_path, raw):
    assert_damage_is_found(tmp_path, raw, range(25))


def test_random_pickles_run_no_code(tmp_path):
    assert_programs_are_harmless(tmp_path, range(60))


def test_a_config_in_a_checkpoint_is_not_run(tmp_path, model):
    """Runner.resume passes ``meta.config`` to Config.fromstring, which executes it."""
    state = hostile.run_state(model)
    state['meta']['config'] = 'import os\nos.system("touch marker")'
    torch.save(state, tmp_path / 'config.pth')
    assert 'config' not in load_from_file(str(tmp_path / 'config.pth'))['meta']


def test_a_checkpoint_cannot_make_the_hook_delete_other_files(tmp_path, model):
    victim = tmp_path / 'elsewhere' / 'best_of_all'
    victim.mkdir(parents=True)
    own = tmp_path / 'run'
    own.mkdir()
    state = hostile.run_state(model)
    info = state['message_hub']['runtime_info']
    paths = {
        'best_ckpt': str(victim),
        'best_ckpt_a': str(own / 'best_a_epoch_1.pth'),
        'best_ckpt_b': f'{own}/best_x/../../elsewhere/best_of_all',
        'best_ckpt_c': str(own / 'vis_data'),
        'best_ckpt_d': 7,
        'keep_ckpt_ids': [1, '/../../elsewhere'],
    }
    info.update(paths)
    torch.save(state, own / 'epoch_1.pth')
    kept = load_from_file(str(own / 'epoch_1.pth'))['message_hub']['runtime_info']
    assert {key: kept[key] for key in paths if key in kept} == {'best_ckpt_a': paths['best_ckpt_a']}


def test_a_checkpoint_does_not_set_the_methods_of_logs(tmp_path, model):
    buffer = HistoryBuffer([1.0, 4.0], [1, 1])
    buffer.__dict__['_statistics_methods'] = {'mean': HistoryBuffer.min}
    buffer.__dict__['mean'] = HistoryBuffer.max
    torch.save({'state_dict': model.state_dict(), 'log': buffer}, tmp_path / 'log.pth')
    loaded = load_from_file(str(tmp_path / 'log.pth'))['log']
    assert type(loaded) is HistoryBuffer
    assert loaded.mean() == loaded.statistics('mean') == 2.5
    assert set(vars(loaded)) == {'max_length', '_log_history', '_count_history'}


@pytest.mark.parametrize(
    'change, key',
    [
        (lambda state: state.pop('meta'), 'meta.epoch'),
        (lambda state: state.pop('message_hub'), 'message_hub.log_scalars'),
        (lambda state: state['meta'].update(epoch='1'), 'meta.epoch'),
        (lambda state: state['message_hub'].update(log_scalars=[]), 'message_hub.log_scalars'),
    ],
)
def test_a_checkpoint_without_the_state_of_a_run_is_not_resumed(model, change, key):
    state = hostile.run_state(model)
    change(state)
    with pytest.raises(CheckpointError, match=f"'x.pth' has no valid {key}: .* load_from="):
        check_is_resumable(state, 'x.pth')


@pytest.mark.parametrize('optimizer', [torch.optim.Adafactor, torch.optim.LBFGS])
def test_the_state_of_any_optimizer_is_resumable(tmp_path, model, optimizer):
    """The state of these has shapes other than those of the parameters."""
    state = hostile.run_state(model)
    optimizer = optimizer(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step(lambda: torch.tensor(1.0))
    state['optimizer'] = optimizer.state_dict()
    torch.save(state, tmp_path / 'epoch_1.pth')
    loaded = load_from_file(str(tmp_path / 'epoch_1.pth'))
    check_is_resumable(loaded, 'epoch_1.pth')
    optimizer.load_state_dict(loaded['optimizer'])


def test_no_module_loads_pickles_without_weights_only():
    """Every torch.load has weights_only=True, and no other function loads pickles."""
    calls = 0
    for folder in ('surge_mm', 'tools', 'benchmarks', 'configs'):
        for file in sorted((ROOT / folder).rglob('*.py')):
            text = file.read_text()
            for node in ast.walk(ast.parse(text)):
                if not isinstance(node, ast.Call):
                    continue
                name = ast.unparse(node.func)
                keywords = {k.arg: k.value for k in node.keywords}
                if 'weights_only' in keywords:
                    assert ast.unparse(keywords['weights_only']) == 'True', (file, node.lineno)
                    calls += 1
                assert name != 'torch.load' or 'weights_only' in keywords, (file, node.lineno)
                loads = (
                    'pickle.load',
                    'pickle.loads',
                    'joblib.load',
                    'torch.jit.load',
                    'dill.load',
                )
                allowed = (
                    file.name == 'cifar.py' and name == 'pickle.loads'
                )  # of official checksums
                assert name not in loads or allowed, (file, node.lineno)
                assert not (
                    'allow_pickle' in keywords and ast.unparse(keywords['allow_pickle']) == 'True'
                )
                assert 'load_state_dict_from_url' not in name and name != 'load_url'
            for word in ('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', 'safe_globals([getattr'):
                assert f"environ['{word}']" not in text and f'setenv {word}' not in text
    assert calls
