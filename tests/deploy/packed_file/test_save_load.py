"""A packed model is after its file what it was before."""

from concurrent.futures import ThreadPoolExecutor

import mmcv
import numpy as np
import pytest
import torch
from helpers.packed_files import (
    NARROW_RETINANET,
    STUDENT,
    changed,
    classifier_config,
    config_of,
    detector_config,
    packed_file,
    trained_model,
)
from mmdet.apis import inference_detector
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmpretrain import ImageClassificationInferencer
from mmpretrain.models import ImageClassifier
from torch import nn

from surge_mm.deploy import PackedConv2d, load_packed, pack, save_packed
from surge_mm.deploy.onnx.export import export_onnx
from surge_mm.deploy.packed_file import save_load
from surge_mm.deploy.packed_file.allowed_classes import full_name
from surge_mm.deploy.packed_file.format import read_packed
from surge_mm.layers import BinaryLayer
from surge_mm.ops import ActivationBinarizer
from surge_mm.utils.errors import CheckpointError, UsageError

ADABIN = {'type': 'surge_mm.SurgeConv2d', 'weight': {'type': 'AdaBin'}}
REAL = {'type': 'surge_mm.SurgeConv2d', 'weight': {'type': 'Real'}}
MODELS_TO_KEEP = {
    'detector': lambda: detector_config(),
    'detector by rules': lambda: config_of(
        'bccd/surge_retinanet-1bit_r18-light_40e_bccd.py', NARROW_RETINANET
    ),
    'classifier': lambda: classifier_config(),
    'classifier with Hardtanh and AdaBin': lambda: classifier_config(
        **{'model.backbone.act_cfg': {'type': 'Hardtanh'}, 'model.backbone.conv_cfg': ADABIN}
    ),
    'student of a teacher': lambda: config_of(
        'resnet/surge-reactnet_resnet18_128e-step2_in1k.py', STUDENT
    ),
}


def image(size=64):
    return np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)


@torch.no_grad()
@pytest.mark.parametrize('name', MODELS_TO_KEEP)
def test_a_loaded_model_gives_the_outputs_of_the_trained_one(name, tmp_path):
    cfg = MODELS_TO_KEEP[name]()
    before = trained_model(cfg).to(memory_format=torch.channels_last)
    after = load_packed(packed_file(cfg, tmp_path / 'a.safetensors'))
    assert any(isinstance(module, PackedConv2d) for module in after.modules())
    assert not any(isinstance(module, BinaryLayer) for module in after.modules())
    assert not any(module.training for module in after.modules())
    x = torch.randn(2, 3, 64, 64)
    for one, other in zip(_outputs(before, x), _outputs(after, x), strict=True):
        assert torch.equal(one, other)


def _outputs(model, x):
    if isinstance(model, ImageClassifier):
        return [model(x)]
    return [level for maps in model(x) for level in maps]


def test_packed_and_onnx_files_do_not_depend_on_how_gradients_are_computed(tmp_path):
    """Neither on the controls of the surrogate gradient nor on the form of the branch."""
    activation = {'type': 'STESign', 'gain': 1.2, 'floor': 0.1, 'window': 'rms', 'k': 2}
    training = {
        'plain': {'activation': {'type': 'STESign'}, 'compensator': None},
        'controlled': {
            'activation': activation,
            'compensator': {'eta': 0.1, 'frozen': True},
        },
    }
    packed, exported = [], []
    for name, settings in training.items():
        conv_cfg = {'type': 'surge_mm.SurgeConv2d', **settings}
        cfg = classifier_config()
        cfg.model.backbone.conv_cfg = conv_cfg
        packed.append(read_packed(packed_file(cfg, tmp_path / f'{name}.safetensors')))
        export_onnx(trained_model(cfg), tmp_path / f'{name}.onnx', (16, 16))
        exported.append((tmp_path / f'{name}.onnx').read_bytes())
    first, other = packed
    assert other.config == first.config
    assert other.tensors.keys() == first.tensors.keys()
    assert all(torch.equal(first.tensors[key], other.tensors[key]) for key in first.tensors)
    assert exported[0] == exported[1]


def test_layers_that_cannot_be_packed_are_kept_with_their_weights(tmp_path):
    cfg = classifier_config()
    model = trained_model(cfg)
    cfg.model.base_type, cfg.model.type = cfg.model.type, 'surge_mm.Binarized'
    cfg.model.binary = REAL
    cfg.model.rules = [{'name': 'head.fc', 'to': 'binary'}]
    model = trained_model(cfg)
    assert isinstance(model.head.fc, BinaryLayer)
    weight = model.head.fc.weight.detach().clone()
    save_packed(pack(model), tmp_path / 'a.safetensors', cfg)
    loaded = load_packed(tmp_path / 'a.safetensors')
    assert list(loaded.packing.kept) == ['head.fc'] and 'Real()' in loaded.packing.kept['head.fc']
    assert torch.equal(loaded.head.fc.weight, weight)


@pytest.mark.parametrize('as_array', [True, False])
def test_inference_detector_needs_nothing_but_the_file(as_array, tmp_path):
    cfg = detector_config(**{'model.test_cfg.score_thr': 0.0})
    loaded = load_packed(packed_file(cfg, tmp_path / 'a.safetensors'))
    before = trained_model(cfg).to(memory_format=torch.channels_last)
    before.cfg = cfg
    picture = image(96)
    mmcv.imwrite(picture, str(tmp_path / 'a.png'))
    picture = picture if as_array else str(tmp_path / 'a.png')
    with DefaultScope.overwrite_default_scope('mmdet'):
        expected = inference_detector(before, picture).pred_instances
    with DefaultScope.overwrite_default_scope('mmengine'):  # the file says its own
        found = inference_detector(loaded, picture).pred_instances
    assert len(found) == 50
    assert torch.equal(found.bboxes, expected.bboxes)
    assert torch.equal(found.scores, expected.scores)
    assert loaded.dataset_meta['classes'] == cfg.metainfo.classes


@torch.no_grad()
def test_the_inferencer_of_mmpretrain_takes_the_model_of_a_file(tmp_path):
    cfg = classifier_config()
    loaded = load_packed(packed_file(cfg, tmp_path / 'a.safetensors'))
    picture = image(loaded.cfg.test_dataloader.dataset.pipeline[1].scale[0])
    (said,) = ImageClassificationInferencer(loaded)(picture)
    rgb = torch.from_numpy(picture[..., ::-1].copy()).permute(2, 0, 1)[None]
    scores = loaded.test_step({'inputs': rgb, 'data_samples': None})[0].pred_score
    np.testing.assert_array_equal(said['pred_scores'], scores.numpy())
    assert said['pred_class'] == loaded.dataset_meta['classes'][int(scores.argmax())]


def test_a_config_names_the_file_as_its_model(tmp_path):
    path = packed_file(classifier_config(), tmp_path / 'a.safetensors')
    model = MODELS.build({'type': 'surge_mm.load_packed', 'path': str(path)})
    assert isinstance(model, ImageClassifier)


def test_a_file_contains_neither_latent_weights_nor_settings_of_training(tmp_path):
    cfg = config_of('resnet/surge-reactnet_resnet18_128e-step2_in1k.py', STUDENT)
    cfg.test_dataloader.dataset.data_root = '/home/someone/secret'
    cfg.custom_imports.imports.append('my_secret')
    raw = packed_file(cfg, tmp_path / 'a.safetensors').read_bytes()
    for word in (b'://', b'teacher', b'init_cfg', b'RandomFlip', b'/home', b'Adam', b'aux_weight'):
        assert word not in raw, word
    file = read_packed(tmp_path / 'a.safetensors')
    blocks = [name for name in file.tensors if name.startswith('backbone.layer')]
    assert not [name for name in blocks if name.endswith('conv1.weight')]


def test_shared_layers_are_stored_once(tmp_path):
    cfg = config_of(
        'rtmdet/surge_rtmdet-1bit_r18_1x_coco.py',
        {
            'model.backbone.base_channels': 16,
            'model.backbone.init_cfg': None,
            'model.neck.in_channels': [32, 64, 128],
            'model.neck.out_channels': 64,
            'model.bbox_head.in_channels': 64,
            'model.bbox_head.feat_channels': 64,
        },
    )
    packed_file(cfg, tmp_path / 'a.safetensors')
    tensors = read_packed(tmp_path / 'a.safetensors').tensors
    first, second = (tensors[f'bbox_head.cls_convs.{i}.0.conv.signs'] for i in range(2))
    assert first is second
    loaded = load_packed(tmp_path / 'a.safetensors').bbox_head.cls_convs
    assert torch.equal(loaded[0][0].conv.signs, loaded[1][0].conv.signs)


def test_a_model_that_does_not_match_its_config_is_not_saved(tmp_path):
    cfg, path = classifier_config(), tmp_path / 'a.safetensors'
    model = trained_model(cfg)
    with pytest.raises(UsageError, match='ImageClassifier is not packed: surge_mm.deploy.pack'):
        save_packed(model, path, cfg)
    pack(model)
    wider = classifier_config(**{'model.backbone.base_channels': 8})
    with pytest.raises(UsageError, match=r'the model is not what cfg builds, packed: .* of \d+'):
        save_packed(model, path, wider)

    class Local:
        """A class without a path, and not registered."""

    with pytest.raises(UsageError, match='model.head.type=.*Local.* a class. Write the name'):
        save_packed(model, path, classifier_config(**{'model.head.type': Local}))
    with pytest.raises(UsageError, match="cannot be stored.*model.head.type='nn.Linear'"):
        save_packed(model, path, classifier_config(**{'model.head.type': 'nn.Linear'}))
    with pytest.raises(UsageError, match="'a.pth' must end in .safetensors"):
        save_packed(model, 'a.pth', cfg)
    assert not list(tmp_path.iterdir())


def test_a_file_is_replaced_only_on_request(tmp_path):
    cfg, path = classifier_config(), tmp_path / 'a.safetensors'
    path.write_text('mine')
    model = pack(trained_model(cfg))
    with pytest.raises(UsageError, match='exists already'):
        save_packed(model, path, cfg)
    assert path.read_text() == 'mine'
    checksum = save_packed(model, path, cfg, overwrite=True)
    assert read_packed(path).sha256 == checksum
    assert [file.name for file in tmp_path.iterdir()] == ['a.safetensors']


@pytest.mark.parametrize(
    'change, message',
    [
        (
            lambda t: t.pop('head.fc.bias'),
            r"1 of \d+ tensors differ.*: 'head.fc.bias' is missing in the checkpoint and",
        ),
        (
            lambda t: t.update({'mo\nre': torch.ones(2)}),
            r"'mo\\nre' is \(2,\) of float32 in the checkpoint and missing in the model",
        ),
        (
            lambda t: t.update({'head.fc.bias': torch.ones(3)}),
            r"'head.fc.bias' is \(3,\) of float32 in the checkpoint and \(10,\) of float32 in the model",
        ),
        (
            lambda t: t.update({'head.fc.bias': t['head.fc.bias'].double()}),
            r"'head.fc.bias' is \(10,\) of float64 in the checkpoint",
        ),
    ],
)
def test_tensors_of_another_model_are_not_loaded(change, message, tmp_path):
    path = packed_file(classifier_config(), tmp_path / 'a.safetensors')
    with pytest.raises(CheckpointError, match=f'not those of its config .*{message}'):
        load_packed(changed(path, tensors=change))


def test_files_are_loaded_in_threads_as_one_after_the_other(tmp_path):
    paths = [
        packed_file(classifier_config(), tmp_path / 'a.safetensors'),
        packed_file(detector_config(), tmp_path / 'b.safetensors'),
    ]
    with ThreadPoolExecutor(4) as threads:
        loaded = list(threads.map(load_packed, paths * 4))
    assert [type(model).__name__ for model in loaded] == ['ImageClassifier', 'FCOS'] * 4


def test_a_class_of_ones_own_is_loaded_when_it_is_allowed(tmp_path, monkeypatch):
    logged = []
    monkeypatch.setattr(save_load, 'log', logged.append)
    monkeypatch.setattr(MODELS, '_module_dict', dict(MODELS._module_dict))

    @MODELS.register_module()
    class MeanOfAll(nn.Module):
        def forward(self, features):
            return tuple(one.mean((2, 3)) for one in features)

    cfg = classifier_config(**{'model.neck': {'type': 'MeanOfAll', '_delete_': True}})
    cfg.custom_imports = {
        'imports': ['surge_mm', 'my_package.necks'],
        'allow_failed_imports': False,
    }
    path = packed_file(Config(cfg._cfg_dict), tmp_path / 'a.safetensors')
    name = full_name(MeanOfAll)
    assert logged == [
        f"to load {path.name!r}, allow its classes: load_packed(path, allow=['{name}'])"
    ]
    with pytest.raises(
        CheckpointError, match=f"names {name}, .* load_packed.path, allow=.'{name}'"
    ):
        load_packed(path)
    assert isinstance(load_packed(path, allow=[MeanOfAll]).neck, MeanOfAll)
    assert isinstance(load_packed(path, allow=[name]).neck, MeanOfAll)
    del MODELS._module_dict['MeanOfAll']
    with pytest.raises(
        CheckpointError,
        match="model.neck.type='MeanOfAll' is in no registry.*import its module.*author imported ..my_package.necks",
    ):
        load_packed(path, allow=[MeanOfAll])


@pytest.mark.parametrize('learned_shift', [False, True])
def test_a_file_of_a_private_surrogate_gradient_is_loaded_without_its_class(
    learned_shift, tmp_path, monkeypatch
):
    monkeypatch.setattr(ActivationBinarizer, 'known', dict(ActivationBinarizer.known))
    members = {
        '__module__': 'bnn_lab.methods',
        'learned_shift': learned_shift,
        'derivative': lambda self, x: 1 - torch.tanh(x).square(),
    }
    type('LabSign', (ActivationBinarizer,), members)
    layer = {'type': 'surge_mm.SurgeConv2d', 'activation': {'type': 'bnn_lab.LabSign', 'gain': 2}}
    cfg = classifier_config(**{'model.backbone.conv_cfg': layer})
    before = trained_model(cfg).to(memory_format=torch.channels_last)
    path = packed_file(cfg, tmp_path / 'a.safetensors')
    del ActivationBinarizer.known['LabSign']
    after = load_packed(path)
    assert any(isinstance(module, PackedConv2d) for module in after.modules())
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(before(x), after(x))
