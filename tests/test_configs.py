"""Every config builds; the methods differ where they should and nowhere else."""

from pathlib import Path

import pytest
import torch
from helpers.samples import detection_batch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.structures import DataSample

from surge_mm.layers import BinaryLayer
from surge_mm.ops import AdaptiveScale, FixedScale, Scheduled
from surge_mm.preflight.config_keys import check_names

CONFIGS = Path(__file__).parents[1] / 'configs'
LEAVES = sorted(p for p in CONFIGS.rglob('*.py') if '_base_' not in p.parts)
SMALL = {CONFIGS / name for name in ('cifar10_mini', 'cifar10_sweep', 'bccd')}
FOLDERS = sorted({p.parent for p in LEAVES} - SMALL)
AGS, SCHEDULE = 'surge_mm.AdaptiveGradientScalerHook', 'surge_mm.BinarizerScheduleHook'
# method: activation, weight, scale of the branch, hooks
METHODS = {
    'surge': ('ApproxSign', 'ScaledSign', AdaptiveScale(0.1), [AGS]),
    'surge-norm': ('ApproxSign', 'ScaledSign', AdaptiveScale(0.1, preserve_norm=True), [AGS]),
    'dpgc': ('ApproxSign', 'ScaledSign', FixedScale(0.1), []),
    'ste': ('ApproxSign', 'ScaledSign', None, []),
    'fp': None,
    'xnor': ('STESign', 'XNOR', None, []),
    'bireal': ('ApproxSign', 'ReAct', None, []),
    'reactnet': ('RSign', 'ReAct', None, []),
    'irnet': ('EDE', 'Libra', None, [SCHEDULE]),
    'reste': ('ReSTE', 'ScaledSign', None, [SCHEDULE]),
    'recu': ('ApproxSign', 'ReCU', None, [SCHEDULE]),
    'adabin': ('ApproxSign', 'AdaBin', None, [SCHEDULE]),
    'surge-recu': ('ApproxSign', 'ReCU', AdaptiveScale(0.1), [SCHEDULE, AGS]),
    'step1': ('RSign', 'Real', None, []),
    'step2-reactnet': ('RSign', 'ReAct', None, []),
    'step2-surge-reactnet': ('RSign', 'ReAct', AdaptiveScale(0.1), [AGS]),
    'step2-recu-rsign': ('RSign', 'ReCU', None, [SCHEDULE]),
}
SWEEP = {  # of configs/cifar10_sweep
    'surge-eta0.03': ('ApproxSign', 'ScaledSign', AdaptiveScale(0.03), [AGS]),
    'surge-eta0.3': ('ApproxSign', 'ScaledSign', AdaptiveScale(0.3), [AGS]),
    'surge-norm-eta0.5': ('ApproxSign', 'ScaledSign', AdaptiveScale(0.5, True), [AGS]),
    'surge-lite': ('ApproxSign', 'ScaledSign', AdaptiveScale(0.1), [AGS]),
    'surge-kaiming': ('ApproxSign', 'ScaledSign', AdaptiveScale(0.1), [AGS]),
    'surge-aux-lr0.1': ('ApproxSign', 'ScaledSign', AdaptiveScale(0.1), [AGS]),
    'surge-aux-lr10': ('ApproxSign', 'ScaledSign', AdaptiveScale(0.1), [AGS]),
    'surge-aux-wd0': ('ApproxSign', 'ScaledSign', AdaptiveScale(0.1), [AGS]),
}
DETECTORS = ('demo', 'voc', 'coco', 'bccd')
BINARY_LAYERS = {
    'vgg-small': 5,
    'resnet20': 18,
    'resnet20-prelu': 18,
    'resnet34': 32,
    'reactnet-a': 31,
    'cascade-rcnn-1bit': 27,
    'faster-rcnn-1bit': 23,
    'fcos-1bit': 29,
    'mask-rcnn-1bit': 27,
    'retinanet-1bit': 29,
    'retinanet-1bit_r18-light': 23,
    'retinanet-1bit-neck_r18-light': 19,
    'rtmdet-1bit': 29,
    'ssd300-1bit': 17,
    'deit-small-1bit': 48,
}  # others: 16


def ids(path):
    return str(path.relative_to(CONFIGS))


def build(path):
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    check_names(cfg)
    model = dict(cfg.model)
    if cfg.get('data_preprocessor'):
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    if 'ssd300' not in path.stem:
        return cfg, MODELS.build(model)
    # a VGG without norms moves only from a good start, and the scales of its neck begin with what is in memory
    model['backbone'] = {**model['backbone'], 'init_cfg': None}
    model = MODELS.build(model)
    model.init_weights()
    return cfg, model


def method_of(path):
    return path.stem.rsplit('_', 1)[1]


@pytest.mark.parametrize(
    'path', [p for p in LEAVES if method_of(p) in ('surge', 'step2-reactnet')], ids=ids
)
def test_methods_of_a_recipe_differ_in_one_line(path):
    lines = path.read_text().splitlines()
    recipe, method = path.stem.rsplit('_', 1)
    siblings = [p for p in path.parent.glob(f'{recipe}_*.py') if method_of(p) != 'step1']
    assert len(siblings) >= 3
    for sibling in siblings:
        others = sibling.read_text().splitlines()
        differ = [pair for pair in zip(lines, others, strict=True) if pair[0] != pair[1]]
        assert all('methods/' in line for pair in differ for line in pair)
        assert len(differ) == (sibling != path)


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda p: p.name)
def test_a_classification_folder_has_every_method_of_every_network(folder):
    if folder.name in DETECTORS:
        assert {method_of(p) for p in folder.glob('*.py')} == {'surge', 'dpgc', 'ste', 'fp'}
        return
    one_stage = [name for name in METHODS if not name.startswith('step')]
    recipes = {p.stem.rsplit('_', 1)[0] for p in folder.glob('*_ste.py') if '1bit' not in p.stem}
    assert len(recipes) == 3
    for recipe in recipes:
        assert all((folder / f'{recipe}_{method}.py').is_file() for method in one_stage)


@pytest.mark.parametrize('path', LEAVES, ids=ids)
def test_config_builds_the_method_of_its_name_and_a_step_moves_every_parameter(path):
    torch.manual_seed(0)
    cfg, model = build(path)
    check_method(path, cfg, model)
    if takes_a_step(path):
        check_step(path, cfg, model)


def takes_a_step(path):
    """Not where a sibling's step shows the same: COCO's networks are VOC's but for Mask R-CNN."""
    if 'coco' in path.parts:
        return path.stem.startswith('mask-rcnn') and method_of(path) == 'surge'
    return '1bit' not in path.stem or method_of(path) in ('surge', 'fp')


def check_method(path, cfg, model):
    if path.parent.name in DETECTORS:
        classes = {'demo': 10, 'voc': 20, 'coco': 80, 'bccd': 3}[path.parent.name]
        head = model.roi_head.bbox_head if hasattr(model, 'roi_head') else model.bbox_head
        heads = head if isinstance(head, torch.nn.ModuleList) else [head]
        assert all(head.num_classes == classes for head in heads)
    layers = [m for m in model.modules() if isinstance(m, BinaryLayer)]
    found = {
        (type(m.activation).__name__, type(m.weight_binarizer).__name__, m.scale) for m in layers
    }
    hooks = [hook['type'] for hook in cfg.get('custom_hooks') or []]
    method = {**METHODS, **SWEEP}[method_of(path)]
    if method is None:
        assert not layers and not hooks
        return
    (binarizers,) = {one[:2] for one in found}
    scales = {one[2] for one in found}
    assert binarizers == method[:2]
    assert hooks == method[3]
    network = path.stem.split('_')[0]
    known = [name for name in BINARY_LAYERS if path.stem.startswith(f'{name}_')]
    assert len(layers) == (BINARY_LAYERS[max(known, key=len)] if known else 16)
    if '1bit' in network and path.parent.name in DETECTORS:
        assert any(isinstance(m, BinaryLayer) for m in model.neck.modules())
    for hook in cfg.get('custom_hooks') or []:
        if hook['type'] == AGS:
            by_hook = AdaptiveScale(hook['eta'], hook.get('preserve_norm', False))
            assert by_hook == method[2]
            if path.parent.name == 'cifar10_sweep':  # where the hook alone says it
                scales = {by_hook}
    assert scales == {method[2]}


def check_step(path, cfg, model):
    for layer in model.modules():
        for binarizer in (
            getattr(layer, name, None) for name in ('activation', 'weight_binarizer')
        ):
            if isinstance(binarizer, Scheduled):
                binarizer.follow(0.5)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    if path.parent.name in DETECTORS:
        data = detection_batch(300 if 'ssd300' in path.stem else 128, 'mask-rcnn' in path.stem)
    else:
        data = classification_batch(path)
    data = model.data_preprocessor(data, training=True)
    total, _ = model.parse_losses(model.loss(data['inputs'], data['data_samples']))
    total.backward()
    assert total.isfinite()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    before = [p.detach().clone() for p in model.parameters()]
    wrapper.step()
    moved = [not torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True)]
    # a few biases have a gradient of zero, and so have the levels of SSD for objects larger than those here
    assert sum(moved) > (0.5 if 'ssd300' in path.stem else 0.9) * len(moved)


def classification_batch(path):
    size = {'cifar10_mini': 16, 'cifar10_sweep': 16, 'cifar10': 32}.get(path.parent.name, 32)
    size = 64 if 'reactnet-a' in path.stem else 224 if 'deit' in path.stem else size
    samples = [DataSample().set_gt_label(label) for label in range(4)]
    inputs = torch.randint(0, 256, (4, 3, size, size), dtype=torch.uint8)
    return {'inputs': inputs, 'data_samples': samples}
