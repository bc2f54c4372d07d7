"""Backbones of this package and binarized models of the hosts meet the contracts of the hosts' models."""

import copy
import pickle
from pathlib import Path

import pytest
import torch
from helpers.samples import detection_batch
from mmdet.apis import inference_detector, init_detector
from mmdet.registry import MODELS as DETECTORS
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict
from mmengine.model import ExponentialMovingAverage
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner.checkpoint import save_checkpoint
from mmpretrain.registry import MODELS as CLASSIFIERS
from mmpretrain.structures import DataSample
from torch.nn.modules.batchnorm import _BatchNorm

from surge_mm import SurgeResNet, binarize
from surge_mm.layers import BinaryLayer, compensated_layers

CONFIGS = Path(__file__).parents[2] / 'configs'


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def host_resnet(**settings):
    return DETECTORS.build({'type': 'ResNet', 'depth': 18, 'base_channels': 8, **settings})


def binarized_resnet(**settings):
    model = host_resnet(**{'stem_channels': 8, **settings})
    binarize(model, [{'kernel_size': 3, 'to': 'binary'}])  # frozen ones too
    return model


def surge_resnet(**settings):
    return SurgeResNet(18, base_channels=8, **settings)


OURS = pytest.mark.parametrize('make', [surge_resnet, binarized_resnet])


@pytest.mark.parametrize('depth', [18, 34, 50])
@pytest.mark.parametrize(
    'settings',
    [
        {},
        {'out_indices': (1, 3)},
        {'num_stages': 3, 'out_indices': (0, 2), 'strides': (1, 2, 2), 'dilations': (1, 1, 1)},
        {'strides': (1, 2, 2, 1), 'dilations': (1, 1, 1, 2)},
        {'in_channels': 4},
    ],
    ids=str,
)
@pytest.mark.parametrize('size', [(64, 64), (65, 97)])
def test_outputs_have_the_shapes_of_mmdetections_resnet(depth, settings, size):
    theirs = host_resnet(**{**settings, 'depth': depth, 'stem_channels': 8})
    ours = SurgeResNet(depth, base_channels=8, **settings)
    x = torch.randn(1, settings.get('in_channels', 3), *size)
    expected = [out.shape for out in theirs(x)]
    assert [out.shape for out in ours(x)] == expected
    binarize(theirs)
    assert [out.shape for out in theirs(x)] == expected


@OURS
@pytest.mark.parametrize('frozen', [-1, 0, 1, 3, 4])
def test_frozen_stages_get_no_gradient_and_keep_their_statistics(make, frozen):
    model = make(frozen_stages=frozen, norm_eval=False)
    model.train()
    names = ['conv1', 'bn1', 'layer1', 'layer2', 'layer3', 'layer4']
    still = names[: 2 + frozen] if frozen >= 0 else []
    before = copy.deepcopy(model.state_dict())
    total = sum(out.square().mean() for out in model(torch.randn(2, 3, 64, 64)))
    if total.requires_grad:
        total.backward()
    for name, parameter in model.named_parameters():
        if name.split('.')[0] in still:
            assert not parameter.requires_grad and parameter.grad is None, name
        elif name.split('.')[0] in names:
            assert parameter.requires_grad and parameter.grad is not None, name
    for name, value in model.state_dict().items():
        if name.split('.')[0] in still:
            assert torch.equal(value, before[name]) or name.endswith('aux_weight'), name
        elif name.endswith('running_mean'):
            assert not torch.equal(value, before[name]), name


@OURS
@pytest.mark.parametrize('norm_eval', [True, False])
def test_norm_eval_keeps_batch_norms_in_evaluation(make, norm_eval):
    model = make(norm_eval=norm_eval)
    model.train()
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    assert norms and all(norm.training != norm_eval for norm in norms)
    assert all(layer.training for _, layer in compensated_layers(model))
    model.eval()
    assert not any(m.training for m in model.modules())


@OURS
def test_checkpointing_changes_neither_output_nor_gradient(make):
    torch.manual_seed(0)
    plain = make(with_cp=False).double()
    torch.manual_seed(0)
    saving = make(with_cp=True).double()
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    results = []
    for model in (plain, saving):
        inputs = x.clone().requires_grad_()
        model.train()
        outputs = model(inputs)
        sum(out.square().sum() for out in outputs).backward()
        results.append((outputs, inputs.grad, [p.grad for p in model.parameters()]))
    torch.testing.assert_close(results[0], results[1], rtol=1e-10, atol=1e-12)


def detector(**model):
    """Build a narrow RetinaNet of MMDetection, all binary except its predictors."""
    cfg = ConfigDict(
        {
            'type': 'surge_mm.Binarized',
            'base_type': 'mmdet.RetinaNet',
            'data_preprocessor': {'type': 'mmdet.DetDataPreprocessor', 'pad_size_divisor': 32},
            'backbone': {
                'type': 'mmdet.ResNet',
                'depth': 18,
                'base_channels': 8,
                'stem_channels': 8,
            },
            'neck': {
                'type': 'mmdet.FPN',
                'in_channels': [8, 16, 32, 64],
                'out_channels': 16,
                'start_level': 1,
                'add_extra_convs': 'on_input',
                'num_outs': 5,
            },
            'bbox_head': {
                'type': 'mmdet.RetinaHead',
                'num_classes': 5,
                'in_channels': 16,
                'feat_channels': 16,
                'anchor_generator': {
                    'type': 'mmdet.AnchorGenerator',
                    'octave_base_scale': 4,
                    'scales_per_octave': 3,
                    'ratios': [0.5, 1.0, 2.0],
                    'strides': [8, 16, 32, 64, 128],
                },
            },
            'train_cfg': {
                'assigner': {
                    'type': 'mmdet.MaxIoUAssigner',
                    'pos_iou_thr': 0.5,
                    'neg_iou_thr': 0.4,
                },
                'allowed_border': -1,
                'pos_weight': -1,
            },
            'test_cfg': {
                'nms_pre': 100,
                'min_bbox_size': 0,
                'score_thr': 0.0,
                'nms': {'type': 'nms', 'iou_threshold': 0.5},
                'max_per_img': 7,
            },
            **model,
        }
    )
    return MODELS.build(cfg)


def test_detector_has_the_three_modes_of_its_host():
    model = detector()
    data = detection_batch()
    prepared = model.data_preprocessor(data, training=True)
    inputs, samples = prepared['inputs'], prepared['data_samples']

    losses = model(inputs, samples, mode='loss')
    total, _ = model.parse_losses(losses)
    assert set(losses) == {'loss_cls', 'loss_bbox'}
    total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name

    model.eval()
    with torch.no_grad():
        predicted = model(inputs, samples, mode='predict')
        raw = model(inputs, samples, mode='tensor')
    assert all(isinstance(one, DetDataSample) for one in predicted)
    for one in predicted:
        assert one.pred_instances.bboxes.shape == (7, 4)
        assert one.pred_instances.scores.shape == one.pred_instances.labels.shape == (7,)
    assert [out.shape[1] for out in raw[0]] == [9 * 5] * 5
    assert [out.shape[1] for out in raw[1]] == [9 * 4] * 5
    with pytest.raises(RuntimeError, match='Invalid mode'):
        model(inputs, samples, mode='draw')


def test_detector_of_several_images_predicts_what_it_predicts_of_each():
    model = detector().double().eval()  # in float32, rounding flips signs of sums near 0
    data = model.data_preprocessor(detection_batch(), training=False)
    inputs, samples = data['inputs'].double(), data['data_samples']
    with torch.no_grad():
        single = model(inputs[1:], copy.deepcopy(samples[1:]), mode='predict')
        both = model(inputs, samples, mode='predict')
    torch.testing.assert_close(both[1].pred_instances.scores, single[0].pred_instances.scores)
    torch.testing.assert_close(both[1].pred_instances.bboxes, single[0].pred_instances.bboxes)


CLASSIFIER_BACKBONES = {
    'ResNet': ({'depth': 18, 'stem_channels': 8, 'base_channels': 8}, 64, 16),
    'VisionTransformer': (
        {
            'arch': {
                'embed_dims': 256,
                'num_layers': 2,
                'num_heads': 4,
                'feedforward_channels': 512,
            },
            'img_size': 64,
            'patch_size': 16,
        },
        256,
        8,
    ),
}


@pytest.mark.parametrize('name', ['ResNet', 'VisionTransformer'])
def test_classifier_has_the_three_modes_of_its_host(name):
    settings, channels, binary = CLASSIFIER_BACKBONES[name]
    vit = name == 'VisionTransformer'
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = CLASSIFIERS.build(
            {
                'type': 'surge_mm.Binarized',
                'base_type': 'ImageClassifier',
                'backbone': {'type': name, **settings},
                'neck': None if vit else {'type': 'GlobalAveragePooling'},
                'head': {
                    'type': 'VisionTransformerClsHead' if vit else 'LinearClsHead',
                    'num_classes': 4,
                    'in_channels': channels,
                },
            }
        )
        model.init_weights()
        assert sum(isinstance(m, BinaryLayer) for m in model.modules()) == binary
        inputs = torch.randn(3, 3, 64, 64)
        samples = [DataSample().set_gt_label(label) for label in (0, 1, 3)]
        losses = model(inputs, samples, mode='loss')
        losses['loss'].backward()
        for key, parameter in model.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        model.eval()
        with torch.no_grad():
            predicted = model(inputs, mode='predict')
            assert [one.pred_score.shape for one in predicted] == [(4,)] * 3
            tensor = model(inputs, mode='tensor')
        assert len(tensor) >= 1 if isinstance(tensor, tuple) else tensor.shape[0] == 3
        with pytest.raises(RuntimeError, match='Invalid mode'):
            model(inputs, samples, mode='draw')


def test_init_detector_and_inference_detector_of_the_host_take_a_binarized_config(tmp_path):
    cfg = Config.fromfile(CONFIGS / 'retinanet/surge_retinanet-1bit_r18_fpn_12e_voc0712.py')
    narrow = {
        'model.backbone.base_channels': 8,
        'model.neck.in_channels': [8, 16, 32, 64],
        'model.test_cfg.score_thr': 0.0,
    }
    cfg.merge_from_dict({**narrow, 'model.backbone.init_cfg': None})
    model = MODELS.build(copy.deepcopy(cfg.model))
    path = str(tmp_path / 'trained.pth')
    meta = {'dataset_meta': {'classes': tuple('abcdefghijklmnopqrst')}}
    save_checkpoint({'state_dict': model.state_dict(), 'meta': meta}, path)
    loaded = init_detector(cfg, path, device='cpu')
    assert type(loaded).__name__ == 'RetinaNet' and loaded.dataset_meta['classes'][3] == 'd'
    weights = loaded.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    image = torch.randint(0, 256, (60, 80, 3), dtype=torch.uint8).numpy()
    assert len(inference_detector(loaded, image).pred_instances) > 0


def test_a_binary_model_is_copied_and_moved_between_types_as_any_module():
    model = detector()
    twin = copy.deepcopy(model)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for one, other in zip(model.eval().backbone(x), twin.eval().backbone(x), strict=True):
            assert torch.equal(one, other)
    again = pickle.loads(pickle.dumps(model))
    average = ExponentialMovingAverage(model, momentum=0.5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    average.update_parameters(model)  # the first update copies
    average.update_parameters(twin)
    for name, value in average.module.named_parameters():
        other = dict(twin.named_parameters())[name]
        assert torch.equal(dict(again.named_parameters())[name], other), name
        torch.testing.assert_close(value, other + 0.5)
