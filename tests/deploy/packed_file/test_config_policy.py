"""A packed file from an untrusted source runs nothing, imports nothing and fetches nothing."""

import socket

import pytest
from helpers.hostile_checkpoints import canary
from helpers.narrow import NARROW, config
from helpers.packed_files import (
    CONFIGS,
    changed,
    classifier_config,
    detector_config,
    packed_file,
    setting,
)
from mmcv.transforms import RandomResize
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from surge_mm.deploy import load_packed
from surge_mm.deploy.packed_file.config import stored_config
from surge_mm.deploy.packed_file.config_policy import check_classes, check_structure
from surge_mm.deploy.packed_file.json_text import from_json, to_json
from surge_mm.utils.errors import CheckpointError

CODE = "__import__('os').system('touch marker')"
URL = 'https://example.org/weights.pth'
STEP = 'test_dataloader.dataset.pipeline.0'
UNKNOWN = 'is in no registry of mmengine, mmdet, mmpretrain, surge_mm'
NOT_LISTED = 'which is not on the list of classes that a packed file may name'


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp('packed')
    return {
        'detector': packed_file(detector_config(), folder / 'detector.safetensors'),
        'classifier': packed_file(classifier_config(), folder / 'classifier.safetensors'),
    }


@pytest.fixture(autouse=True)
def traps(tmp_path, monkeypatch):
    """Modules that leave a mark when they are imported, and no way to the net."""
    monkeypatch.chdir(tmp_path)
    trap = "open('marker', 'w').close()\ndef run(*_, **__): open('marker', 'w').close()\n"
    (tmp_path / 'evil').mkdir()
    for name in ('evil/__init__.py', 'evil/registry.py', 'trap.py'):
        (tmp_path / name).write_text(trap)
    monkeypatch.syspath_prepend(tmp_path)

    def connect(*_):
        raise AssertionError('a connection')

    monkeypatch.setattr(socket.socket, 'connect', connect)


def refused(path, message, tmp_path):
    with canary() as heard, pytest.raises(CheckpointError, match=message) as error:
        load_packed(path)
    assert '\n' not in str(error.value)
    assert not heard and not (tmp_path / 'marker').exists()


def test_mmengine_itself_imports_and_runs_what_a_config_names(tmp_path):
    with canary() as heard:
        MODELS.build({'type': 'os.system', 'command': 'true'})
    assert heard == ['os.system']
    with pytest.raises(TypeError), DefaultScope.overwrite_default_scope('mmengine'):
        MODELS.build({'type': 'trap'})  # a module is no class, but it is imported
    assert (tmp_path / 'marker').exists()


@pytest.mark.parametrize(
    'key',
    [
        'model.type',
        'model.backbone.type',
        'model.backbone.conv_cfg.type',
        'model.bbox_head.loss_cls.type',
        'model.bbox_head.norm_cfg.type',
        'model.data_preprocessor.type',
        f'{STEP}.type',
        'visualizer.type',
    ],
)
@pytest.mark.parametrize(
    'name', ['os.system', 'mmengine.load', 'mmdet.apis.init_detector', 'evil.run', 'trap', 'SGD']
)
def test_a_type_that_is_not_registered_is_not_imported(key, name, files, tmp_path):
    path = changed(files['detector'], setting(key, name), target=tmp_path / 'a')
    refused(path, f"{key}='{name}' {UNKNOWN}", tmp_path)


CASES = {
    'the model to binarize': ('model.base_type', 'os.system', f"base_type='os.system' {UNKNOWN}"),
    'a layer of a rule': (
        'model.rules',
        [{'name': '*', 'to': {'activation': {'type': 'evil.run'}}}],
        f"model.rules.0.to.activation.type='evil.run' {UNKNOWN}",
    ),
    'a step in a step': (
        STEP,
        {'type': 'RandomApply', 'transforms': [{'type': 'evil.run'}]},
        f"{STEP}.transforms.0.type='evil.run' {UNKNOWN}",
    ),
    'a class by another name': (
        STEP,
        {'type': 'RandomResize', 'scale': (8, 8), 'resize_type': 'evil.run'},
        f"{STEP}.resize_type='evil.run' {UNKNOWN}",
    ),
    'a folder to import from': (
        f'{STEP}.backend_args',
        {'backend': 'memcached', 'server_list_cfg': 'a', 'client_cfg': 'b', 'sys_path': 'evil'},
        f'{STEP}.backend_args=.* must not be set',
    ),
    'an old name of it': (f'{STEP}.file_client_args', {'backend': 'lmdb'}, 'must not be set'),
    'a file of margins': (
        'model.bbox_head',
        {
            'type': 'mmpretrain.ArcFaceClsHead',
            'num_classes': 1,
            'in_channels': 1,
            'margins': 'a.txt',
        },
        f"model.bbox_head.margins='a.txt' {UNKNOWN}",
    ),
    'a list as type': ('model.backbone.type', ['os.system'], 'must be the name of a registered'),
    'a scope': ('model._scope_', 'evil', "model._scope_='evil' must be one of mmengine"),
    'a scope inside': ('model.neck._scope_', 'evil', "model.neck._scope_='evil' must be"),
    'a scope of a package that is not there': (
        'default_scope',
        'mmfewshot',
        "default_scope='mmfewshot' needs mmfewshot, which is not installed",
    ),
    'a file of weights of classes': (
        'model.bbox_head.loss_cls.class_weight',
        'a.pkl',
        "model.bbox_head.loss_cls.class_weight='a.pkl' names a file",
    ),
    'no scope': ('model.neck._scope_', ['evil'], 'model.neck._scope_='),
    'the default scope': (
        'default_scope',
        'evil',
        "default_scope='evil' must be one of mmdet, mmp",
    ),
    'code for batched_nms': ('model.test_cfg.nms.type', CODE, 'no registry'),
    'a name for batched_nms': ('model.test_cfg.nms.type', 'os.system', 'no registry'),
    'code in an argument': (
        f'{STEP}',
        {'type': 'mmpretrain.torchvision/ConvertImageDtype', 'dtype': f'float32 if {CODE} else 0'},
        NOT_LISTED,
    ),
    'a transform that builds another one': (
        STEP,
        {'type': 'RandomResize', 'scale': (8, 8), 'resize_type': 'Resize'},
        f'RandomResize, {NOT_LISTED}',
    ),
    'a dotted name in an argument': (
        'model.neck.style',
        'os.system',
        f"model.neck.style='os.system' {UNKNOWN}",
    ),
    'a class in an argument': (
        'model.neck.style',
        'mmpretrain.TIMMBackbone',
        f"model.neck.style='mmpretrain.TIMMBackbone' names .*, {NOT_LISTED}",
    ),
    'a key with a line break': ('model.neck.a\nb', {'type': 'a'}, f"neck.a b.type='a' {UNKNOWN}"),
    'code for OpenCV': (
        'model.bbox_head.bbox_coder',
        {'type': 'mmdet.CameraMotionCompensation', 'warp_mode': 'exit'},
        f'camera_motion_compensation.CameraMotionCompensation, {NOT_LISTED}',
    ),
    'a model of timm': (
        'model.backbone',
        {'type': 'mmpretrain.TIMMBackbone', 'model_name': 'resnet18', 'features_only': True},
        f'model.backbone.type=.*timm_backbone.TIMMBackbone, {NOT_LISTED}',
    ),
    'a file in a file': (
        'model',
        {'type': 'surge_mm.load_packed', 'path': 'a'},
        f'save_load.load_packed, {NOT_LISTED}',
    ),
    'weights to fetch': (
        'model.backbone.init_cfg',
        {'type': 'Pretrained', 'checkpoint': URL},
        'model.backbone.init_cfg=.* must not be set in a packed file',
    ),
    'weights of torchvision': ('model.backbone.pretrained', 'torchvision://resnet18', 'not be set'),
    'a checkpoint': ('model.neck.checkpoint', 'a.pth', 'model.neck.checkpoint=.* not be set'),
    'a branch for training': ('model.backbone.conv_cfg.compensator', {'eta': 1}, 'not be set'),
    'where to write': ('visualizer.save_dir', '/etc', "visualizer.save_dir='/etc' must not be set"),
    'what to log to': ('visualizer.vis_backends', [{'type': 'WandbVisBackend'}], 'not be set'),
    'a hook': ('custom_hooks', [{'type': 'SyncBuffersHook'}], 'a dict with the keys custom_imp'),
    'a test set': (
        'test_dataloader.dataset.ann_file',
        'a.pkl',
        'must hold dataset.pipeline, a list, and nothing else',
    ),
    'a step that is a text': (STEP, 'os.system', f'{STEP} must be a dict with a type'),
    'no list of steps': ('test_dataloader.dataset.pipeline', {}, 'must hold dataset.pipeline'),
    'a model that is a list': ('model', [{'type': 'ReLU'}], 'model must be a dict with a type'),
    'another model': ('model', {'type': 'mmdet.GIoULoss'}, 'cannot be built: .* no binary layer'),
    'an argument that is not there': ('model.backbone.depht', 18, "did you mean 'depth'"),
    'a long number': ('model.bbox_head.num_classes', 10**4000, 'cannot be built: .{,1000}$'),
}


@pytest.mark.parametrize('name', CASES)
def test_a_forbidden_value_of_a_config_is_refused_with_its_key(name, files, tmp_path):
    key, value, message = CASES[name]
    path = changed(files['detector'], setting(key, value), target=tmp_path / 'a')
    refused(path, f"packed model '{path}': .*{message}", tmp_path)


def test_modules_that_the_author_imported_are_not_imported(files, tmp_path):
    path = changed(
        files['detector'], setting('custom_imports', ['evil', 'trap']), target=tmp_path / 'a'
    )
    load_packed(path)
    assert not (tmp_path / 'marker').exists()


def test_configs_of_the_package_can_be_stored_and_loaded():
    files = sorted(CONFIGS.glob('*/*surge*.py'))[::4]
    assert len(files) >= 5
    for file in files:
        stored = from_json(to_json(stored_config(Config.fromfile(file), {'classes': ('a', 'b')})))
        check_structure(stored)
        check_classes(stored, allow=())


@pytest.mark.parametrize('family', NARROW)
def test_every_family_of_detectors_is_allowed(family, tmp_path):
    stored = stored_config(config(family, tmp_path, tmp_path), {})
    check_structure(stored)
    check_classes(stored, allow=())


@pytest.mark.parametrize(
    'name',
    [
        'mmdet::cascade_rpn/cascade-rpn_faster-rcnn_r50-caffe_fpn_1x_coco.py',
        'mmdet::centernet/centernet_r18_8xb16-crop512-140e_coco.py',
        'mmdet::detr/detr_r50_8xb2-150e_coco.py',
        'mmdet::dcnv2/faster-rcnn_r50_fpn_mdpool_1x_coco.py',
        'mmdet::mask2former/mask2former_r50_8xb2-lsj-50e_coco-panoptic.py',
        'mmdet::yolox/yolox_s_8xb8-300e_coco.py',
        'mmpretrain::mobilenet_v3/mobilenet-v3-small_8xb128_in1k.py',
        'mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py',
    ],
)
def test_other_models_of_the_hosts_are_allowed(name, tmp_path):
    (tmp_path / 'leaf.py').write_text(f'_base_ = {name!r}')
    stored = stored_config(Config.fromfile(tmp_path / 'leaf.py'), {})
    check_structure(stored)
    check_classes(stored, allow=())


def test_a_class_is_allowed_by_itself_or_by_its_full_name(files, tmp_path):
    change = setting(STEP, {'type': 'RandomResize', 'scale': (8, 8), 'resize_type': 'Resize'})
    path = changed(files['detector'], change, target=tmp_path / 'a')
    refused(path, f'RandomResize, {NOT_LISTED}', tmp_path)
    for allowed in (RandomResize, 'mmcv.transforms.processing.RandomResize'):
        load_packed(path, allow=[allowed])
    change = setting(STEP, {'type': 'RandomResize', 'scale': (8, 8), 'resize_type': 'evil.run'})
    path = changed(path, change, target=tmp_path / 'b')
    with pytest.raises(CheckpointError, match=f"resize_type='evil.run' {UNKNOWN}"):
        load_packed(path, allow=[RandomResize])
    assert not (tmp_path / 'marker').exists()
