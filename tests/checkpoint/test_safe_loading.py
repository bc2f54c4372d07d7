"""A hostile, damaged or foreign checkpoint is refused in a sentence and leaves everything as it was."""

import ast
import io
import os
import time
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
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import CheckpointLoader, load_checkpoint

from surge_mm.checkpoint.safe_loading import check_can_go_on, guard_mmengine_loader, load_from_file
from surge_mm.launch.resume import check_fits
from surge_mm.utils.errors import CheckpointError, LaunchError, UsageError

ROOT = Path(__file__).parents[2]
REASON = 'cannot be read: (its?|an? tensors?|tensors|the checkpoint (makes|asks))'
"""That of our own checks, not that PyTorch has come to."""
FIRST = 'backbone.layer1.0.conv1.weight'


@pytest.fixture(scope='module')
def raw():
    return hostile.saved(hostile.run_state(Classifier()))


@pytest.fixture
def model():
    return Classifier()


@pytest.fixture(autouse=True)
def nothing_happens(model):
    """Around each test: nothing is run, the methods of logs stay."""
    HistoryBuffer()  # which sets them
    methods = dict(HistoryBuffer._statistics_methods)
    yield
    assert HistoryBuffer._statistics_methods == methods


def refuses(model, path, match=None):
    """Every way in refuses it, in a sentence with its name, and leaves the model's weights."""
    before = copies(model)
    with hostile.canary() as heard:
        for load in (
            lambda: load_checkpoint(model, str(path)),
            lambda: check_fits(model, str(path)),
            lambda: check_fits(model, str(path), whole=False),
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
        check_can_go_on(check_fits(model, str(path)), str(path), model)
    assert not heard
    theirs = torch.load(io.BytesIO(raw))['state_dict']
    assert all(torch.equal(value, theirs[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize('legacy', [False, True], ids=['zip', 'legacy'])
@pytest.mark.parametrize('attack', hostile.RUN_CODE)
def test_code_is_not_run(tmp_path, model, attack, legacy):
    path, marker = tmp_path / 'evil.pth', tmp_path / 'marker'
    held = hostile.RUN_CODE[attack](f'touch {marker}')
    path.write_bytes(hostile.saved({'state_dict': model.state_dict(), 'meta': held}, legacy=legacy))
    refuses(model, path)
    assert not marker.exists()
    with hostile.canary() as heard, suppress(TypeError, AttributeError):  # after its deed
        torch.load(path, weights_only=False)
    assert heard and marker.exists(), 'the attack must be a real one'


@pytest.mark.parametrize('legacy', [False, True], ids=['zip', 'legacy'])
@pytest.mark.parametrize('bomb', hostile.BOMBS)
def test_a_bomb_is_refused_before_it_is_loaded(tmp_path, model, bomb, legacy):
    path = tmp_path / 'bomb.pth'
    path.write_bytes(
        hostile.saved(
            {'state_dict': model.state_dict(), 'meta': hostile.BOMBS[bomb]()}, legacy=legacy
        )
    )
    begun = time.monotonic()
    refuses(model, path, match=REASON)
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    'kind',
    [
        *('deflated bomb', 'something before it', 'another archive behind it', 'a comment'),
        *('two directories', 'a record twice', 'no data.pkl', 'TorchScript', 'tar'),
        *('safetensors', 'plain pickle', 'empty', 'a web page'),
    ],
)
def test_what_is_no_plain_checkpoint_is_refused(tmp_path, raw, model, kind):
    path = tmp_path / 'archive.pth'
    path.write_bytes(hostile.archives(raw)[kind])
    refuses(model, path, match=REASON)


@pytest.mark.parametrize('factor', [0, 2, 50])
def test_storages_that_claim_another_size_are_refused(tmp_path, raw, model, factor):
    path = tmp_path / 'claims.pth'
    path.write_bytes(hostile.claims(raw, factor))
    refuses(model, path, match='claims|reaches beyond')


def test_a_rezipped_checkpoint_still_loads(tmp_path, raw, model):
    path = tmp_path / 'again.pth'
    path.write_bytes(hostile.repacked(raw))
    load_checkpoint(model, str(path))


@pytest.mark.parametrize('fault', hostile.weights(Classifier().state_dict(), FIRST))
def test_weights_that_fit_in_part_are_not_loaded(tmp_path, model, fault):
    path = tmp_path / 'weights.pth'
    state = hostile.weights(Classifier().state_dict(), FIRST)[fault]
    path.write_bytes(hostile.saved({'state_dict': state, 'meta': {}}))
    before = copies(model)
    with pytest.raises(LaunchError, match='weights.pth'):
        check_fits(model, str(path))
    with pytest.raises(UsageError):
        load_checkpoint(model, str(path))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_cut_off_and_changed_files_are_refused_or_load_the_very_same(tmp_path, raw):
    assert_damage_is_found(tmp_path, raw, range(25))


def test_random_programs_run_no_code_and_fail_in_a_sentence(tmp_path):
    assert_programs_are_harmless(tmp_path, range(60))


def test_a_config_in_a_checkpoint_is_not_run(tmp_path, model):
    """Runner.resume gives ``meta.config`` to Config.fromstring, which runs it."""
    state = hostile.run_state(model)
    state['meta']['config'] = 'import os\nos.system("touch marker")'
    torch.save(state, tmp_path / 'config.pth')
    assert 'config' not in load_from_file(str(tmp_path / 'config.pth'))['meta']


def test_a_checkpoint_does_not_say_which_files_to_delete(tmp_path, model):
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
    'fault, match',
    [
        (lambda state: state.pop('meta'), 'no meta.epoch: it is not that of a run'),
        (lambda state: state.pop('message_hub'), 'no message_hub.log_scalars'),
        (lambda state: state['meta'].update(epoch='1'), 'meta.epoch is no number'),
        (lambda state: state['meta'].update(iter=-1), 'meta.iter is no number'),
        (lambda state: state['message_hub'].update(log_scalars=[]), 'malformed'),
        (lambda state: state['optimizer'].update(state=7), 'malformed'),
        (lambda state: state['optimizer']['param_groups'][0]['params'].pop(), 'parameters, the'),
        (
            lambda state: state['optimizer']['state'][0].update(momentum_buffer=torch.zeros(2, 3)),
            'shape .2, 3.',
        ),
    ],
)
def test_the_state_of_another_run_is_refused(tmp_path, model, fault, match):
    state = hostile.run_state(model)
    fault(state)
    with pytest.raises(CheckpointError, match=match):
        check_can_go_on(state, 'x.pth', model)


def test_parts_of_a_binarized_detector_take_a_checkpoint_whole_or_not(tmp_path):
    def build(depth, **init_cfg):
        with DefaultScope.overwrite_default_scope('mmdet'):
            return MODELS.build(
                {
                    'type': 'surge_mm.Binarized',
                    'base_type': 'mmdet.ATSS',
                    'backbone': {
                        'type': 'ResNet',
                        'depth': depth,
                        'base_channels': 8,
                        'norm_eval': False,
                        'out_indices': (3,),
                        **init_cfg,
                    },
                    'neck': {'type': 'FPN', 'in_channels': [64], 'out_channels': 8, 'num_outs': 1},
                    'bbox_head': {
                        'type': 'ATSSHead',
                        'num_classes': 2,
                        'in_channels': 8,
                        'feat_channels': 32,
                        'stacked_convs': 1,
                        'anchor_generator': {
                            'type': 'AnchorGenerator',
                            'ratios': [1.0],
                            'octave_base_scale': 8,
                            'scales_per_octave': 1,
                            'strides': [32],
                        },
                    },
                }
            )

    path = str(tmp_path / 'r18.pth')
    torch.save({'state_dict': build(18).backbone.state_dict()}, path)
    pretrained = {'init_cfg': {'type': 'Pretrained', 'checkpoint': path}}
    model = build(18, **pretrained)
    model.init_weights()
    assert torch.equal(model.backbone.conv1.weight, torch.load(path)['state_dict']['conv1.weight'])

    other = build(34, **pretrained)
    before = copies(other.backbone)
    with pytest.raises(
        UsageError, match='does not fit ResNet in .* it lacks layer1.2.conv1.weight'
    ):
        other.backbone.init_weights()
    assert all(torch.equal(v, before[name]) for name, v in other.backbone.state_dict().items())
    with pytest.raises(UsageError, match='no weight of ATSS'):
        load_checkpoint(other, path)


def test_nothing_switches_weights_only_off():
    """Neither says ``weights_only=`` anything but True, nor loads pickles by another function."""
    calls = 0
    for folder in ('surge_mm', 'tools', 'benchmarks', 'configs'):
        for file in sorted((ROOT / folder).rglob('*.py')):
            text = file.read_text()
            for node in ast.walk(ast.parse(text)):
                if not isinstance(node, ast.Call):
                    continue
                name = ast.unparse(node.func)
                said = {word.arg: word.value for word in node.keywords}
                if 'weights_only' in said:
                    assert ast.unparse(said['weights_only']) == 'True', (file, node.lineno)
                    calls += 1
                assert name != 'torch.load' or 'weights_only' in said, (file, node.lineno)
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
                assert not ('allow_pickle' in said and ast.unparse(said['allow_pickle']) == 'True')
                assert 'load_state_dict_from_url' not in name and name != 'load_url'
            for word in ('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', 'safe_globals([getattr'):
                assert f"environ['{word}']" not in text and f'setenv {word}' not in text
    assert calls


@pytest.mark.parametrize('scheme', ['file', 'https'])
@pytest.mark.parametrize('forced', ['0', '1'])
def test_mmengine_loads_with_weights_only_whatever_the_environment_says(
    tmp_path, monkeypatch, raw, model, scheme, forced
):
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', forced)
    said = []
    load = torch.load
    monkeypatch.setattr(
        torch, 'load', lambda *args, **kwargs: said.append(kwargs) or load(*args, **kwargs)
    )

    def download(url, file, **kwargs):
        Path(file).write_bytes(data)

    monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    data, marker = raw, tmp_path / 'marker'
    path = tmp_path / 'good.pth'
    path.write_bytes(data)
    load_checkpoint(model, str(path) if scheme == 'file' else 'https://example.org/hub.pth')
    assert [keywords['weights_only'] for keywords in said] == [True]

    data = hostile.saved(
        {'state_dict': model.state_dict(), 'meta': hostile.Call(os.system, f'touch {marker}')}
    )
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match='system'):
        CheckpointLoader.load_checkpoint(
            str(path) if scheme == 'file' else 'https://example.org/evil.pth'
        )
    assert not marker.exists()


def test_a_process_without_protection_is_warned(monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', 'yes')
    with pytest.warns(UserWarning, match='lets checkpoints run code'):
        guard_mmengine_loader()
