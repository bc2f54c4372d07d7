"""Narrow detectors with teachers of the same structure in full precision."""

import copy

import torch
from helpers.samples import detection_batch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope

NORMALIZATION = {'mean': [123.675, 116.28, 103.53], 'std': [58.395, 57.12, 57.375]}
ASSIGNER = {'type': 'MaxIoUAssigner', 'pos_iou_thr': 0.5, 'neg_iou_thr': 0.4}
TEST = {'nms_pre': 50, 'score_thr': 0.0, 'nms': {'type': 'nms', 'iou_threshold': 0.5}}
HEADS = {
    'retina': {
        'type': 'RetinaHead',
        'anchor_generator': {
            'type': 'AnchorGenerator',
            'octave_base_scale': 4,
            'scales_per_octave': 1,
            'ratios': [0.5, 1.0],
            'strides': [8, 16, 32],
        },
    },
    'fcos': {'type': 'FCOSHead', 'strides': [8, 16, 32], 'norm_on_bbox': True,
             'norm_cfg': {'type': 'BN'}},
    'gfl': {
        'type': 'GFLHead',
        'anchor_generator': {
            'type': 'AnchorGenerator',
            'octave_base_scale': 4,
            'scales_per_octave': 1,
            'ratios': [1.0],
            'strides': [8, 16, 32],
        },
        'norm_cfg': {'type': 'BN'},
        'loss_cls': {'type': 'QualityFocalLoss'},
        'loss_bbox': {'type': 'GIoULoss'},
    },
    'yolox': {'type': 'YOLOXHead', 'strides': [8, 16, 32]},
}  # fmt: skip
BASES = {'retina': 'RetinaNet', 'fcos': 'FCOS', 'gfl': 'GFL', 'yolox': 'YOLOX'}


TERMS = ['loss_distill_feat', 'loss_distill_cls', 'loss_distill_bbox']


def detector(head='retina', num_classes=3, channels=16, **model):
    """Return the config of a narrow single-stage detector of MMDetection."""
    train = {'assigner': ASSIGNER, 'allowed_border': -1, 'pos_weight': -1}
    if head in ('gfl', 'yolox'):
        kind = 'ATSSAssigner' if head == 'gfl' else 'SimOTAAssigner'
        train['assigner'] = {'type': kind, **({'topk': 9} if head == 'gfl' else {})}
    return ConfigDict(
        {
            'type': f'mmdet.{BASES[head]}',
            'data_preprocessor': {'type': 'DetDataPreprocessor', 'bgr_to_rgb': True, **NORMALIZATION},
            'backbone': {'type': 'ResNet', 'depth': 18, 'base_channels': 8, 'stem_channels': 8},
            'neck': {
                'type': 'FPN',
                'in_channels': [8, 16, 32, 64],
                'start_level': 1,
                'out_channels': channels,
                'num_outs': 3,
            },
            'bbox_head': {
                'num_classes': num_classes,
                'in_channels': channels,
                'feat_channels': 16,
                **copy.deepcopy(HEADS[head]),
            },
            'train_cfg': train,
            'test_cfg': {**TEST, 'min_bbox_size': 0, 'max_per_img': 9},
            **model,
        }
    )  # fmt: skip


def save_teacher(folder, model, classes=None, name='teacher', spread=1.0):
    """Write config and checkpoint of a detector with random weights, and return the key ``teacher``."""
    cfg = Config({'default_scope': 'mmdet', 'model': copy.deepcopy(model)})
    cfg.dump(folder / f'{name}.py')
    torch.manual_seed(7)
    with DefaultScope.overwrite_default_scope('mmdet'):
        built = MODELS.build(copy.deepcopy(model))
    built.init_weights()
    with torch.no_grad():
        for key, parameter in built.named_parameters():
            if key.startswith(('bbox_head', 'rpn_head', 'roi_head')):
                parameter.add_(spread * 0.1 * torch.randn_like(parameter))
    meta = {'dataset_meta': {'classes': classes}} if classes else {}
    torch.save({'meta': meta, 'state_dict': built.state_dict()}, folder / f'{name}.pth')
    return {'config': str(folder / f'{name}.py'), 'checkpoint': str(folder / f'{name}.pth')}


def student(model, teacher, **options):
    """Build the distilled form of a model config."""
    cfg = copy.deepcopy(model)
    kind = cfg.pop('type')
    if 'base_type' not in cfg:
        cfg.base_type = kind
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(
            {**cfg, 'type': 'surge_mm.DistilledDetector', 'teacher': teacher, **options}
        )


def distill(cfg, folder):
    """Make the model of a narrow config, binarized by rules, distilled from the same one in full precision, in place.

    Args:
        cfg (Config): A config of :mod:`helpers.narrow`.
        folder (Path): Where config and checkpoint of the teacher are written.
    """
    model = copy.deepcopy(cfg.model)
    model.type = model.pop('base_type')
    model.pop('binary', None)
    if 'conv_cfg' in model.backbone:
        model.backbone.conv_cfg = None
    cfg.model.type = 'surge_mm.DistilledDetector'
    cfg.model.teacher = save_teacher(folder, model)
    cfg.model.score_thr = 0.05


def prepared(model):
    torch.manual_seed(5)
    data = model.data_preprocessor(detection_batch(), training=True)
    return data['inputs'], data['data_samples']


def losses_of(model):
    return model.loss(*prepared(model))


def distilled(losses):
    return {name: float(value) for name, value in losses.items() if 'distill' in name}
