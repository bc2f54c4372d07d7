"""Every config builds; the methods differ where they should and nowhere else."""

from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from surge_mm import SurgeConv2d
from surge_mm.layers import compensated_layers
from surge_mm.ops import AdaptiveScale, FixedScale

CONFIGS = Path(__file__).parents[1] / 'configs'
LEAVES = sorted(p for p in CONFIGS.rglob('*.py') if '_base_' not in p.parts)
METHODS = ('surge', 'dpgc', 'ste', 'fp')


def ids(path):
    return str(path.relative_to(CONFIGS))


def build(path):
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    return cfg, MODELS.build(cfg.model)


def method_of(path):
    return path.stem.rsplit('_', 1)[1]


@pytest.mark.parametrize('path', LEAVES, ids=ids)
def test_config_builds_the_method_that_its_name_says(path):
    cfg, model = build(path)
    binary = [m for m in model.modules() if isinstance(m, SurgeConv2d)]
    scales = {type(layer.scale) for _, layer in compensated_layers(model)}
    hooks = [hook['type'] for hook in cfg.get('custom_hooks') or []]
    expected = {
        'surge': (16, {AdaptiveScale}, ['surge_mm.AdaptiveGradientScalerHook']),
        'dpgc': (16, {FixedScale}, []),
        'ste': (16, set(), []),
        'fp': (0, set(), []),
    }[method_of(path)]
    assert (len(binary), scales, hooks) == expected


@pytest.mark.parametrize('path', [p for p in LEAVES if method_of(p) == 'surge'], ids=ids)
def test_methods_of_a_recipe_differ_in_one_line(path):
    texts = {m: path.with_stem(path.stem.removesuffix('surge') + m).read_text() for m in METHODS}
    assert len(texts['surge'].splitlines()) <= 25
    for method, text in texts.items():
        assert text.replace(f'methods/{method}.py', 'methods/surge.py') == texts['surge']


# COCO's networks are VOC's but for the number of classes.
@pytest.mark.parametrize('path', [p for p in LEAVES if 'coco' not in p.parts], ids=ids)
def test_one_step_gives_every_parameter_a_gradient(path):
    cfg, model = build(path)
    samples = [detection_sample(cfg) for _ in range(2)]
    data = model.data_preprocessor(
        {'inputs': [s[0] for s in samples], 'data_samples': [s[1] for s in samples]}, training=True
    )
    losses = model.loss(data['inputs'], data['data_samples'])
    total, _ = model.parse_losses(losses)
    total.backward()
    assert total.isfinite()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def detection_sample(cfg):
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    image = torch.randint(0, 256, (3, 128, 128), dtype=torch.uint8)
    boxes = torch.tensor([[10.0, 12.0, 60.0, 70.0], [70.0, 60.0, 120.0, 110.0]])
    sample = DetDataSample(
        gt_instances=InstanceData(bboxes=boxes, labels=torch.tensor([0, 3])),
        metainfo={'img_shape': (128, 128), 'ori_shape': (128, 128), 'scale_factor': (1.0, 1.0)},
    )
    return image, sample
