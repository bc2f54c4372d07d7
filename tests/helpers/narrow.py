"""The detectors for COCO of ``configs`` made narrow, over a few digits."""

import json
from pathlib import Path

from mmengine.config import Config

from surge_mm.datasets.digits import make_digits

CONFIGS = Path(__file__).parents[2] / 'configs'
FPN = {
    'backbone': {'base_channels': 16, 'init_cfg': None},
    'neck': {'in_channels': [16, 32, 64, 128], 'out_channels': 64},
}
TOWERS = {'in_channels': 64, 'feat_channels': 64, 'num_classes': 10}
BOX_HEAD = {'in_channels': 64, 'fc_out_channels': 256, 'num_classes': 10}
EXTRACTOR = {'out_channels': 64}
RPN = {'in_channels': 64, 'feat_channels': 64}
FEW_ROIS = {'sampler': {'num': 64}}
ANY_SCORE = {'rcnn': {'score_thr': 0.0}}
NARROW = {
    'faster-rcnn-1bit_r18_fpn': {
        **FPN,
        'rpn_head': RPN,
        'roi_head': {'bbox_roi_extractor': EXTRACTOR, 'bbox_head': BOX_HEAD},
        'train_cfg': {'rcnn': FEW_ROIS},
        'test_cfg': ANY_SCORE,
    },
    'mask-rcnn-1bit_r18_fpn': {
        **FPN,
        'rpn_head': RPN,
        'roi_head': {
            'bbox_roi_extractor': EXTRACTOR,
            'bbox_head': BOX_HEAD,
            'mask_roi_extractor': EXTRACTOR,
            'mask_head': {'in_channels': 64, 'conv_out_channels': 64, 'num_classes': 10},
        },
        'train_cfg': {'rcnn': FEW_ROIS},
        'test_cfg': ANY_SCORE,
    },
    'cascade-rcnn-1bit_r18_fpn': {
        **FPN,
        'rpn_head': RPN,
        'roi_head': {'bbox_roi_extractor': EXTRACTOR, 'bbox_head': {i: BOX_HEAD for i in range(3)}},
        'train_cfg': {'rcnn': {i: FEW_ROIS for i in range(3)}},
        'test_cfg': ANY_SCORE,
    },
    'retinanet-1bit_r18_fpn': {**FPN, 'bbox_head': TOWERS},
    'fcos-1bit_r18_fpn': {**FPN, 'bbox_head': TOWERS},
    'rtmdet-1bit_r18': {
        'backbone': FPN['backbone'],
        'neck': {'in_channels': [32, 64, 128], 'out_channels': 64},
        'bbox_head': TOWERS,
    },
    # four levels, for images of 128 pixels
    'ssd300-1bit_vgg16': {
        'backbone': {'init_cfg': None},
        'neck': {
            'out_channels': (512, 1024, 256, 256),
            'level_strides': (2, 2),
            'level_paddings': (1, 1),
        },
        'bbox_head': {
            'in_channels': (512, 1024, 256, 256),
            'num_classes': 10,
            'anchor_generator': {'strides': [8, 16, 32, 64], 'ratios': [[2], [2, 3], [2, 3], [2]]},
        },
    },
}


def digits_with_masks(folder):
    """Make a few digits of 128 pixels in ``folder``, whose boxes are their masks too."""
    make_digits(folder, train=32, val=4, test=2)
    for path in (folder / 'annotations').glob('*.json'):
        content = json.loads(path.read_text())
        for one in content['annotations']:
            x, y, w, h = one['bbox']
            one['segmentation'] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        path.write_text(json.dumps(content))
    return folder


def config(family, digits, work_dir):
    (path,) = CONFIGS.glob(f'*/surge_{family}_*_coco.py')
    cfg = Config.fromfile(path)
    data = Config.fromfile(CONFIGS / '_base_/datasets/digits_coco.py')
    model = {f'model.{key}': value for key, value in flat(NARROW[family])}
    cfg.merge_from_dict(model, allow_list_keys=True)
    with_mask = family.startswith('mask')
    for name in ('train', 'val'):
        loader = data[f'{name}_dataloader']
        batch_size = 2 if family.startswith('ssd') else 4
        loader.batch_size, loader.num_workers, loader.persistent_workers = batch_size, 0, False
        loader.dataset.data_root = f'{digits}/'
        for step in loader.dataset.pipeline:
            if step['type'] == 'LoadAnnotations' and with_mask:
                step['with_mask'] = True
        cfg[f'{name}_dataloader'] = loader
    cfg.val_evaluator = {
        'type': 'CocoMetric',
        'ann_file': f'{digits}/annotations/val.json',
        'metric': ['bbox', 'segm'] if with_mask else 'bbox',
    }
    cfg.test_dataloader = cfg.test_cfg = cfg.test_evaluator = None
    cfg.train_cfg = {'by_epoch': False, 'max_iters': 20, 'val_interval': 20}
    lr = (
        4e-3 if family.startswith('rtmdet') else 1e-3
    )  # its loss of scores rises with its boxes at first
    cfg.optim_wrapper = {
        'optimizer': {'type': 'AdamW', 'lr': lr},
        'clip_grad': {'max_norm': 10},
    }
    cfg.param_scheduler = []
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.checkpoint = {'type': 'CheckpointHook', 'by_epoch': False, 'interval': 20}
    cfg.randomness = {'seed': 0}
    cfg.work_dir = str(work_dir)
    return cfg


def with_fewer_regions(cfg, number=16):
    """Limit the regions that the stages of a detector sample and propose, which take most of its time.

    Args:
        cfg (Any): a model config, or a part of one. It is changed in place.
        number (int): largest number of regions for each image and stage.

    Returns:
        Any: ``cfg``.
    """
    if isinstance(cfg, dict):
        for key, value in cfg.items():
            if key in ('num', 'num_proposals', 'max_per_img') and isinstance(value, int):
                cfg[key] = min(value, number)
            else:
                with_fewer_regions(value, number)
    elif isinstance(cfg, (list, tuple)):
        for item in cfg:
            with_fewer_regions(item, number)
    return cfg


def flat(settings, prefix=''):
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from flat(value, f'{prefix}{key}.')
        else:
            yield f'{prefix}{key}', value
