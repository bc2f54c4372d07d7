"""A packed file of a stranger runs nothing, imports nothing, fetches nothing and fills no memory."""

import socket

import pytest
import torch
from helpers.hostile_checkpoints import canary, little_memory
from helpers.packed_files import (
    CONFIGS,
    changed,
    classifier_config,
    detector_config,
    packed_file,
    setting,
)
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from surge_mm.deploy import load_packed
from surge_mm.deploy.packed_file.config import from_json, stored_config, to_json
from surge_mm.deploy.packed_file.config_policy import check_config
from surge_mm.utils.errors import CheckpointError

CODE = "__import__('os').system('touch marker')"
URL = 'https://example.org/weights.pth'
STEP = 'test_dataloader.dataset.pipeline.0'
UNKNOWN = 'is in no registry of mmengine, mmdet, mmpretrain, surge_mm'


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
    for name in ('evil/__init__.py', 'evil/registry.py', 'trap.py', 'MaxIoUAssigner.py'):
        (tmp_path / name).write_text(trap)
    monkeypatch.syspath_prepend(tmp_path)

    def connect(*_):
        raise AssertionError('a connection')

    monkeypatch.setattr(socket.socket, 'connect', connect)


def refused(path, message, tmp_path):
    with canary() as heard, little_memory(), pytest.raises(CheckpointError, match=message) as error:
        load_packed(path)
    assert '\n' not in str(error.value)
    assert not heard and not (tmp_path / 'marker').exists()


def test_what_is_guarded_against_is_real(tmp_path):
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
    'the model to binarise': ('model.base_type', 'os.system', f"base_type='os.system' {UNKNOWN}"),
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
        "model.bbox_head.margins='a.txt' must not be set",
    ),
    'a list as type': ('model.backbone.type', ['os.system'], 'must be the name of a registered'),
    'a scope': ('model._scope_', 'evil', "model._scope_='evil' must be one of mmengine"),
    'a scope inside': ('model.neck._scope_', 'evil', "model.neck._scope_='evil' must be"),
    'no scope': ('model.neck._scope_', ['evil'], 'model.neck._scope_='),
    'the default scope': ('default_scope', 'evil', "default_scope='evil' must be 'mmdet' or"),
    'modules to import': ('custom_imports', {'imports': ['evil']}, 'must be a list of names'),
    'code for batched_nms': ('model.test_cfg.nms.type', CODE, 'no registry'),
    'a name for batched_nms': ('model.test_cfg.nms.type', 'os.system', 'no registry'),
    'code in an argument': (
        f'{STEP}',
        {'type': 'mmpretrain.torchvision/ConvertImageDtype', 'dtype': f'float32 if {CODE} else 0'},
        f'{STEP}.dtype=.* looks like code or an address',
    ),
    'code without a call': (
        f'{STEP}',
        {
            'type': 'mmpretrain.torchvision/ConvertImageDtype',
            'dtype': 'os if [0 for torch.conv2d in [torch.os.system]] else 0',
        },
        f'{STEP}.dtype=.* looks like code or an address',
    ),
    'a key that is no name': ('model.neck.a\nb', 1, r"model.neck: its key 'a\\nb' is no name"),
    'code for OpenCV': (
        'model.bbox_head.bbox_coder',
        {'type': 'mmdet.CameraMotionCompensation', 'warp_mode': 'exit'},
        'mmdet.models.task_modules.tracking.camera_motion_compensation, whose arguments name files',
    ),
    'a model of timm': (
        'model.backbone',
        {'type': 'mmpretrain.TIMMBackbone', 'model_name': 'resnet18', 'features_only': True},
        'model.backbone.type=.*timm_backbone, whose arguments name files',
    ),
    'a file in a file': (
        'model',
        {'type': 'surge_mm.load_packed', 'path': 'a'},
        'surge_mm.deploy.packed_file.save_load, whose arguments name files',
    ),
    'weights to fetch': (
        'model.backbone.init_cfg',
        {'type': 'Pretrained', 'checkpoint': URL},
        'model.backbone.init_cfg=.* must not be set in a packed file',
    ),
    'weights of torchvision': ('model.backbone.pretrained', 'torchvision://resnet18', 'not be set'),
    'a checkpoint': ('model.neck.checkpoint', 'a.pth', 'model.neck.checkpoint=.* not be set'),
    'a branch for training': ('model.backbone.conv_cfg.compensator', {'eta': 1}, 'not be set'),
    'an address': ('model.neck.style', URL, "model.neck.style='https.*looks like code or an addr"),
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
    'classes that are numbers': ('dataset_meta.classes', [1, 2], 'its classes a list of names'),
    'another model': ('model', {'type': 'mmdet.GIoULoss'}, 'cannot be built: .* no binary layer'),
    'an argument that is not there': ('model.backbone.depht', 18, "did you mean 'depth'"),
    'a long number': ('model.bbox_head.num_classes', 10**4000, 'cannot be built: .{,1000}$'),
    'very wide layers': ('model.backbone.base_channels', 2**11, 'larger than the file'),
    'very many zeros': (
        'model.bbox_head.loss_cls',
        {'type': 'mmdet.SeesawLoss', 'num_classes': 10**9},
        'larger than the file',
    ),
    'a very long line': (
        'model.bbox_head',
        {
            'type': 'GFLHead',
            'num_classes': 1,
            'in_channels': 1,
            'stacked_convs': 0,
            'reg_max': 10**9,
            'anchor_generator': {
                'type': 'AnchorGenerator',
                'scales': [4],
                'ratios': [1.0],
                'strides': [8],
            },
        },
        'larger than the file',
    ),
    'very many layers': ('model.bbox_head.stacked_convs', 10**9, 'larger than the file'),
    'very many classes': ('model.bbox_head.num_classes', 2**40, 'larger than the file|cannot be b'),
}


@pytest.mark.parametrize('name', CASES)
def test_what_a_config_must_not_say_is_refused_with_its_key(name, files, tmp_path):
    key, value, message = CASES[name]
    path = changed(files['detector'], setting(key, value), target=tmp_path / 'a')
    refused(path, f"packed model '{path}': .*{message}", tmp_path)


def test_a_registered_name_in_the_wrong_place_is_not_imported(files, tmp_path):
    change = setting('model.backbone', {'type': 'MaxIoUAssigner'})
    path = changed(files['detector'], change, target=tmp_path / 'a')
    refused(path, 'MaxIoUAssigner is not in the mmdet::model registry', tmp_path)
    assert (
        MODELS.get('torch.nn.ReLU') is torch.nn.ReLU
    )  # configs of one's own are as free as before


def test_every_kind_of_config_of_the_package_can_be_stored():
    files = [
        file
        for folder in ('bccd', 'coco', 'imagenet')
        for file in CONFIGS.glob(f'{folder}/*_surge.py')
    ]
    files += [
        CONFIGS / f'cifar10/{name}_600e_cifar10_adabin.py' for name in ('resnet20', 'vgg-small')
    ]
    files += CONFIGS.glob('imagenet/resnet18*step2*.py')
    assert len(files) > 20
    for file in files:
        stored = stored_config(Config.fromfile(file), {'classes': ('a', 'b')})
        check_config(from_json(to_json(stored)))


@pytest.mark.parametrize(
    'name',
    [
        'mmdet::cascade_rpn/cascade-rpn_faster-rcnn_r50-caffe_fpn_1x_coco.py',
        'mmdet::detr/detr_r50_8xb2-150e_coco.py',
        'mmdet::dcnv2/faster-rcnn_r50_fpn_mdpool_1x_coco.py',
        'mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py',
    ],
)
def test_settings_of_other_models_of_the_hosts_are_known(name, tmp_path):
    (tmp_path / 'leaf.py').write_text(f'_base_ = {name!r}')
    check_config(stored_config(Config.fromfile(tmp_path / 'leaf.py'), {}))
