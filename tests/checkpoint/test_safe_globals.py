import copy
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch
from helpers.hostile_checkpoints import Call
from mmengine.config import ConfigDict
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.model import BaseModel
from mmengine.runner import Runner, load_checkpoint
from torch.utils.data import Dataset

from surge_mm.compat import allow_mmengine_checkpoints

STATISTICS = ('min', 'max', 'mean', 'current')


@pytest.fixture(autouse=True)
def safe_list(monkeypatch):
    """Allow checkpoints of MMEngine only, without what another test may have allowed."""
    monkeypatch.delenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', raising=False)
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    allow_mmengine_checkpoints()
    yield
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals(before)


def roundtrip(value, path, **kwargs):
    torch.save(value, path, **kwargs)
    return torch.load(path)


class Line(BaseModel):
    """Linear regression: batches of pairs (x, y)."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 1)

    def forward(self, x, y, mode='loss'):
        return {'loss': (self.linear(x)[:, 0] - y).square().mean()}


class Points(Dataset):
    METAINFO = dict(classes=('left', 'right'), palette=[(220, 20, 60), (119, 11, 32)])
    metainfo = METAINFO

    def __len__(self):
        return 8

    def __getitem__(self, index):
        x = torch.arange(3.0) * 0.1 + index * 0.2
        return x, x.sum().sin()


class Interruption(Hook):
    """Raise KeyboardInterrupt at the start of the third epoch."""

    def before_train_epoch(self, runner):
        if runner.epoch == 2:
            raise KeyboardInterrupt


def runner(work_dir, optimizer, name, max_epochs=4, **kwargs):
    torch.manual_seed(0)
    return Runner(
        model=Line(),
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=4,
            dataset=Points(),
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=max_epochs),
        optim_wrapper=dict(optimizer=optimizer),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=3),
            dict(type='CosineAnnealingLR', T_max=4, by_epoch=True),
        ],
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
        randomness=dict(seed=3),
        experiment_name=name,
        **kwargs,
    )


@pytest.mark.parametrize(
    'optimizer',
    [dict(type='AdamW', lr=0.1), dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.01)],
    ids=lambda optimizer: optimizer['type'],
)
def test_an_interrupted_run_resumes_and_ends_like_an_uninterrupted_one(tmp_path, optimizer):
    name = optimizer['type']
    whole = runner(tmp_path / 'whole', optimizer, f'{name}_whole')
    whole.train()
    interrupted = runner(
        tmp_path / 'parts', optimizer, f'{name}_first', custom_hooks=[Interruption()]
    )
    with pytest.raises(KeyboardInterrupt):
        interrupted.train()
    resumed = runner(tmp_path / 'parts', optimizer, f'{name}_second', resume=True)
    resumed.train()
    assert resumed.iter == 8
    for key, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[key], value), key
    for scalar in ('train/loss', 'train/lr'):
        logs = [r.message_hub.get_scalar(scalar).data[0] for r in (whole, resumed)]
        np.testing.assert_array_equal(*logs)
        assert len(logs[0]) == 8


def test_without_the_safe_globals_torch_rejects_the_checkpoint_of_a_run(tmp_path):
    runner(tmp_path, dict(type='SGD', lr=0.1), 'refused', max_epochs=1).train()
    path = str(tmp_path / 'epoch_1.pth')
    torch.serialization.clear_safe_globals()
    with pytest.raises(pickle.UnpicklingError, match='HistoryBuffer'):
        load_checkpoint(Line(), path)
    allow_mmengine_checkpoints()
    checkpoint = load_checkpoint(Line(), path)
    assert checkpoint['meta']['dataset_meta'] == Points.METAINFO
    assert checkpoint['meta']['seed'] == 3


def test_the_content_of_a_message_hub_is_restored(tmp_path):
    hub = MessageHub.get_instance('comes_back')
    for value in (3, 1.5, np.float32(0.25), torch.tensor(2.0)):
        hub.update_scalar('train/loss', value)
    info = dict(
        cfg='model = dict()',
        seed=7,
        best_score=np.float64(0.5),
        count=np.int64(3),
        flag=np.bool_(True),
        name=np.str_('digit'),
        boxes=np.arange(6, dtype=np.float32).reshape(2, 3).T,
        names=np.array(['a', 'bcd']),
        nested={'list': [1, (2, None)], 'set': {1, 2}},
    )
    hub.update_info_dict(info)
    loaded = roundtrip(hub.state_dict(), tmp_path / 'hub.pth')

    other = MessageHub.get_instance('comes_back_elsewhere')
    other.load_state_dict(loaded)
    buffer = other.get_scalar('train/loss')
    assert isinstance(buffer, HistoryBuffer)
    assert [buffer.statistics(name) for name in STATISTICS] == [0.25, 3, 6.75 / 4, 2]
    for key, value in info.items():
        np.testing.assert_equal(other.get_info(key), value)
        assert getattr(other.get_info(key), 'dtype', None) == getattr(value, 'dtype', None), key


def test_loaded_logs_can_be_continued_and_are_saved_as_plain_numpy(tmp_path):
    buffer = HistoryBuffer([1.0, 2.0], [1, 1])
    loaded = roundtrip({'loss': buffer}, tmp_path / 'first.pth')['loss']
    again = roundtrip({'loss': loaded}, tmp_path / 'second.pth')['loss']
    again.update(6.0)
    assert again.mean() == 3.0
    assert type(pickle.loads(pickle.dumps(loaded))._log_history) is np.ndarray
    assert copy.deepcopy(loaded).max() == 2.0


def test_big_endian_arrays_are_restored(tmp_path):
    value = np.array([1, 2], dtype='>i4')
    np.testing.assert_array_equal(roundtrip(value, tmp_path / 'big.pth'), value)


@pytest.mark.parametrize('package', [b'numpy.core', b'numpy._core'])
def test_checkpoints_of_numpy_1_and_numpy_2_load(tmp_path, package):
    path = tmp_path / 'old.pth'
    value = {'a': np.arange(3.0), 'b': np.float64(2.5), 'c': HistoryBuffer([1], [1])}
    torch.save(value, path, _use_new_zipfile_serialization=False)
    written = np.arange(0).__reduce__()[0].__module__.encode().removesuffix(b'.multiarray')
    data = path.read_bytes()
    assert b'c' + written + b'.multiarray\n_reconstruct\n' in data
    path.write_bytes(data.replace(b'c' + written + b'.', b'c' + package + b'.'))
    loaded = torch.load(path)
    np.testing.assert_array_equal(loaded['a'], value['a'])
    assert loaded['b'] == 2.5 and loaded['c'].current() == 1


def test_numpy_types_allowed_by_a_user_still_load(tmp_path):
    torch.serialization.add_safe_globals([np.dtype, np.ndarray, np.dtypes.Float64DType])
    loaded = roundtrip({'a': np.arange(3.0), 'b': np.float64(2)}, tmp_path / 'both.pth')
    np.testing.assert_array_equal(loaded['a'], np.arange(3.0))
    assert loaded['b'] == 2


@pytest.mark.parametrize(
    'owner, name',
    [
        (HistoryBuffer, '__init__'),
        (HistoryBuffer, '__reduce_ex__'),
        (HistoryBuffer, 'register_statistics'),
        (HistoryBuffer, 'update'),
        (HistoryBuffer([1], [1]), 'mean'),
        (OrderedDict, 'mean'),
        (torch.Tensor, 'max'),
    ],
)
def test_getattr_allows_only_the_statistics_of_history_buffer(tmp_path, owner, name):
    with pytest.raises(pickle.UnpicklingError, match='only min, max, mean, current'):
        roundtrip(Call(getattr, owner, name), tmp_path / 'getattr.pth')


@pytest.mark.parametrize('name', STATISTICS)
def test_getattr_allows_each_statistics_method(tmp_path, name):
    method = roundtrip(Call(getattr, HistoryBuffer, name), tmp_path / 'getattr.pth')
    assert method is getattr(HistoryBuffer, name)


@pytest.mark.parametrize(
    'forgery',
    [
        Call(np.ndarray, (1,), 'O', b'A' * 8),
        Call(np.dtype, 'O', False, True),
        Call(np.dtype, 'V8', False, True),
        Call(np.dtype, 'f8,O', False, True),
        Call(np.dtype, [('a', 'O')], False, True),
        np.array([{}, []], dtype=object),
        np.zeros(2, dtype=[('a', 'f8')]),
    ],
    ids=lambda forgery: str(getattr(forgery, 'reduced', forgery)),
)
def test_numpy_data_that_could_contain_pointers_is_rejected(tmp_path, forgery):
    with pytest.raises(pickle.UnpicklingError):
        roundtrip(forgery, tmp_path / 'forged.pth')


def test_the_flags_of_a_dtype_cannot_be_forged(tmp_path):
    forged = (3, '<', None, None, None, -1, -1, 63)
    dtype = Call(np.dtype, 'f8', False, True, state=forged)
    reconstruct, arguments, state = np.arange(3.0).__reduce__()
    array = Call(reconstruct, *arguments, state=(*state[:2], dtype, *state[3:]))
    loaded = roundtrip(array, tmp_path / 'flags.pth')
    np.testing.assert_array_equal(loaded, np.arange(3.0))
    assert loaded.dtype.flags == np.dtype('f8').flags


def test_a_config_dict_becomes_a_dict(tmp_path):
    loaded = roundtrip({'colors': ConfigDict(a='red', b=[ConfigDict(c=1)])}, tmp_path / 'a.pth')
    assert loaded == {'colors': {'a': 'red', 'b': [{'c': 1}]}}
    assert type(loaded['colors']) is dict and type(loaded['colors']['b'][0]) is dict


@pytest.mark.parametrize('content', [(), ([('a', 1)],), ({}, {})])
def test_other_calls_of_a_config_dict_are_refused(content, tmp_path):
    torch.save({'a': Call(ConfigDict, content)}, tmp_path / 'a.pth')
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / 'a.pth')
