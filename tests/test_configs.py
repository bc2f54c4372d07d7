"""Every config has a name of the grammar, builds what it says, and trains."""

import re
from pathlib import Path

import pytest
import torch
from helpers.narrow import with_fewer_regions
from helpers.samples import detection_batch
from helpers.text_models import text_batch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.structures import DataSample

from surge_mm.composition.methods import apply_method
from surge_mm.layers import BinaryLayer
from surge_mm.models.student import Student, build_teacher
from surge_mm.ops import AdaptiveScale, FixedScale, Scheduled
from surge_mm.preflight.config_keys import check_names
from surge_mm.utils.hosts import model_config

CONFIGS = Path(__file__).parents[1] / 'configs'
BASE = CONFIGS / '_base_'
LEAVES = sorted(p for p in CONFIGS.rglob('*.py') if '_base_' not in p.parts)
AGS, SCHEDULE = 'surge_mm.AdaptiveGradientScalerHook', 'surge_mm.BinarizerScheduleHook'
# method: activation, weight, scale of the branch, hooks
METHODS = {
    'surge': ('ApproxSign', 'ScaledSign', AdaptiveScale(0.1), [AGS]),
    'surge-lite': ('ApproxSign', 'ScaledSign', AdaptiveScale(0.1), [AGS]),
    'surge-frozen': ('ApproxSign', 'ScaledSign', AdaptiveScale(0.1), [AGS]),
    'surge-norm': ('ApproxSign', 'ScaledSign', AdaptiveScale(0.1, preserve_norm=True), [AGS]),
    'surge-lite-norm': ('ApproxSign', 'ScaledSign', AdaptiveScale(0.1, preserve_norm=True), [AGS]),
    'dpgc': ('ApproxSign', 'ScaledSign', FixedScale(0.1), []),
    'ste': ('ApproxSign', 'ScaledSign', None, []),
    'ste-gain': ('ApproxSign', 'ScaledSign', None, []),
    'ste-floor': ('ApproxSign', 'ScaledSign', None, []),
    'ste-rms': ('STESign', 'ScaledSign', None, []),
    'fp': None,
    'xnor': ('STESign', 'XNOR', None, []),
    'bireal': ('ApproxSign', 'ReAct', None, []),
    'reactnet': ('RSign', 'ReAct', None, []),
    'irnet': ('EDE', 'Libra', None, [SCHEDULE]),
    'reste': ('ReSTE', 'ScaledSign', None, [SCHEDULE]),
    'recu': ('ApproxSign', 'ReCU', None, [SCHEDULE]),
    'recu-rsign': ('RSign', 'ReCU', None, [SCHEDULE]),
    'adabin': ('ApproxSign', 'AdaBin', None, [SCHEDULE]),
    'surge-recu': ('ApproxSign', 'ReCU', AdaptiveScale(0.1), [SCHEDULE, AGS]),
    'surge-reactnet': ('RSign', 'ReAct', AdaptiveScale(0.1), [AGS]),
    'rsign': ('RSign', 'Real', None, []),
    'bibert': ('STESign', 'BiBERT', None, []),
    'bit': ('ElasticSign', 'BiT', None, []),
    'bit-2bit': ('ElasticSign', 'BiT', None, []),
    'surge-bit': ('ElasticSign', 'BiT', AdaptiveScale(0.1), [AGS]),
    'ste-embedding': ('ApproxSign', 'ScaledSign', None, []),
    'surge-embedding': ('ApproxSign', 'ScaledSign', AdaptiveScale(0.1), [AGS]),
}
OF_BERT = ('bibert', 'bit', 'bit-2bit', 'surge-bit', 'ste-embedding', 'surge-embedding')
TASKS = {
    'cola': 2,
    'sst2': 2,
    'mrpc': 2,
    'stsb': 1,
    'qqp': 2,
    'mnli': 3,
    'qnli': 2,
    'rte': 2,
    'sst2-mini': 2,
    'sst2-20k': 2,
}
NARROW = {'vocab_size': 40, 'hidden_size': 24, 'num_hidden_layers': 1, 'intermediate_size': 48}
"""Sizes of BERT in these tests."""
CONTROLS = {
    'ste-gain': 'ApproxSign(surrogate_gain=1.08)',
    'ste-floor': 'ApproxSign(surrogate_floor=0.1)',
    'ste-rms': "STESign(surrogate_window='rms', surrogate_k=1)",
}
CLASSES = {'digits': 10, 'bccd': 3, 'voc0712': 20, 'coco': 80}  # of detectors
BINARY_LAYERS = {
    'vgg-small': 5,
    'resnet20': 18,
    'resnet20-prelu': 18,
    'resnet34': 32,
    'reactnet-a': 31,
    'cascade-rcnn-1bit': 27,
    'faster-rcnn-1bit': 23,
    'fcos-1bit': 29,
    'fcos-1bit_r18-light': 23,
    'fcos-1bit-distill_r18-light': 23,
    'fcos-cpu-1bit': 23,
    'fcos-cpu-1bit-distill': 23,
    'mask-rcnn-1bit': 27,
    'retinanet-1bit': 29,
    'retinanet-1bit_r18-light': 23,
    'retinanet-1bit-distill_r18-light': 23,
    'rtmdet-1bit': 29,
    'ssd300-1bit': 17,
    'deit-small-1bit': 48,
    'bert-base-1bit': 7,  # with NARROW
    'bert-mini': 7,
    'minilm-1bit': 6,
}  # others: 16
BATCH_SIZES = {
    'coco': 16,
    'voc0712': 4,
    'in1k': 512,
    'cifar10': 256,
    'cifar10-mini': 128,
    'digits': 8,
    'bccd': 8,
    'fcos-cpu_voc0712': 64,
    'fcos-cpu_coco': 64,
    'ssd300': 32,
    'deit-small': 1024,
    'bert-base': 16,
    'bert-mini': 64,
    'minilm': 32,
}
FAMILIES = {  # folders of other models are called as these are
    'faster-rcnn': 'faster_rcnn',
    'cascade-rcnn': 'cascade_rcnn',
    'mask-rcnn': 'mask_rcnn',
    'ssd300': 'ssd',
    'resnet18': 'resnet',
    'resnet20': 'resnet',
    'resnet34': 'resnet',
    'vgg-small': 'vgg',
    'reactnet-a': 'reactnet',
    'deit-small': 'deit',
    'bert-base': 'glue',
    'fcos-cpu': 'cpu',
}
PURPOSES = {
    'digits': 'demo',
    'bccd': 'bccd',
    'cifar10-mini': 'cifar10_mini',
    'sst2-mini': 'glue_mini',
    'sst2-20k': 'glue_mini',
}
NAME = re.compile(
    rf'(?:(?P<method>{"|".join(sorted(METHODS, key=len, reverse=True))})_)?'
    r'(?P<recipe>(?P<model>[a-z0-9-]+?)(?P<part>-1bit|-1bit-distill)?'
    r'(?:_(?P<backbone>r18|r18-light|r18-[sml]|vgg16)(?P<neck>_fpn)?)?'
    r'_(?P<schedule>1x|\d+e|\d+e-step[12])'
    rf'_(?P<data>coco|voc0712|in1k|cifar10|cifar10-mini|bccd|digits|{"|".join(TASKS)}))'
)
FIRST_LINES = re.compile(
    r"_base_ = (?:\[\s*'\.\./_base_/recipes/(.+)\.py',\s*'\.\./_base_/methods/(.+)\.py',?\s*\]"
    r"|'\.\./_base_/recipes/(.+)\.py')\n"
)


def ids(path):
    return str(path.relative_to(CONFIGS))


def parts(path):
    """Return method, recipe, model, part, backbone, neck, schedule and data of the name of a config."""
    found = NAME.fullmatch(path.stem)
    assert found, f'{path.stem} is no name of configs/README.md'
    return {**found.groupdict(), 'method': found['method'] or 'fp'}


def build(cfg):
    init_default_scope(cfg.default_scope)
    check_names(cfg)
    model = dict(with_fewer_regions(model_config(cfg)))
    if 'SurgeBert' in str(model['backbone']):
        model['backbone'] = {**model['backbone'], **NARROW, 'init_cfg': None}
    if 'SSDVGG' not in str(model['backbone']):
        return MODELS.build(model)
    # a VGG without norms moves only from a good start, and the scales of its neck begin with what is in memory
    model['backbone'] = {**model['backbone'], 'init_cfg': None}
    model = MODELS.build(model)
    model.init_weights()
    return model


@pytest.mark.parametrize('path', LEAVES, ids=ids)
def test_name_follows_the_grammar_and_is_the_recipe_and_method_of_the_config(path):
    name = parts(path)
    family = FAMILIES.get(name['model'], name['model'])
    purpose = family if family == 'cpu' else PURPOSES.get(name['data'], family)
    assert path.parent.name == purpose
    found = FIRST_LINES.match(path.read_text())
    assert (found[1] or found[3], found[2] or 'fp') == (name['recipe'], name['method'])
    assert not (name['method'] == 'fp' and name['part'])
    if name['data'] in CLASSES:
        assert name['backbone']


@pytest.mark.parametrize('method', ['fp', 'ste', 'surge'])
def test_every_network_has_full_precision_ste_and_surge(method):
    names = [parts(path) for path in LEAVES]
    networks = {(n['model'], n['data']) for n in names if 'step' not in n['schedule']}
    assert len(networks) == 38
    if method == 'surge':  # tools/ablation.py composes it for the detectors for CPUs
        networks = {(model, data) for model, data in networks if model != 'fcos-cpu'}
    assert networks == {(n['model'], n['data']) for n in names if n['method'] == method}


def test_methods_are_those_of_the_folder():
    assert {path.stem for path in BASE.glob('methods/*.py')} == set(METHODS)


def test_recipes_are_named_by_the_grammar_and_used():
    recipes = {path.stem for path in BASE.glob('recipes/*.py')}
    used = {parts(path)['recipe'] for path in LEAVES}
    inherited = {
        name
        for path in BASE.glob('recipes/*.py')
        for name in re.findall(r"_base_ = '\./(.+)\.py'", path.read_text())
    }
    assert recipes == used | inherited


@pytest.mark.parametrize('path', LEAVES, ids=ids)
def test_config_builds_the_method_of_its_name_and_a_step_moves_every_parameter(path):
    torch.manual_seed(0)
    name, cfg = parts(path), Config.fromfile(path)
    model = build(cfg)
    check_schedule(name, cfg)
    check_method(name, cfg, model)
    if takes_a_step(name):
        check_step(name, cfg, model)


@pytest.mark.parametrize('method', METHODS)
def test_recipe_with_any_method_builds_and_a_step_moves_every_parameter(method):
    torch.manual_seed(0)
    recipe = 'bert-mini_1e_sst2-mini' if method in OF_BERT else 'resnet20_12e_cifar10-mini'
    cfg = Config.fromfile(BASE / 'recipes' / f'{recipe}.py')
    cfg = apply_method(cfg, Config.fromfile(BASE / 'methods' / f'{method}.py'))
    name = {**parts(BASE / f'{recipe}.py'), 'method': method}
    model = build(cfg)
    check_method(name, cfg, model)
    check_step(name, cfg, model)
    forms = {(m.tied, m.frozen) for m in model.modules() if isinstance(m, BinaryLayer)}
    assert forms <= {(method.startswith('surge-lite'), method == 'surge-frozen')}
    if method in CONTROLS:
        layers = [layer for layer in model.modules() if isinstance(layer, BinaryLayer)]
        assert {str(layer.activation) for layer in layers} == {CONTROLS[method]}


def takes_a_step(name):
    """Leave out steps that repeat others: networks for COCO are those for VOC, except Mask R-CNN.

    For VOC and BCCD, SURGE takes the step. The digits and CIFAR-10 have the steps of the other methods.

    A teacher must be trained first. tests/models/detectors and classifiers have the steps with one.
    """
    if name['part'] == '-1bit-distill' or (name['part'] and name['data'] in TASKS):
        return False
    if name['data'] == 'coco':
        return name['model'] == 'mask-rcnn' and name['method'] == 'surge'
    return name['method'] == 'surge' or (
        name['data'] not in ('voc0712', 'bccd') and name['model'] not in ('deit-small', 'bert-base')
    )


def check_schedule(name, cfg):
    epochs = 12 if name['schedule'] == '1x' else int(re.match(r'\d+', name['schedule'])[0])
    assert cfg.train_cfg.max_epochs == epochs
    base = cfg.auto_scale_lr.base_batch_size
    keys = f'{name["model"]}_{name["data"]}', name['model'], name['data']
    assert base == next(BATCH_SIZES[key] for key in keys if key in BATCH_SIZES)
    assert not cfg.auto_scale_lr.get('enable', False)
    if name['data'] == 'coco':
        host = get_config('mmdet::_base_/schedules/schedule_1x.py')
        milestones = cfg.param_scheduler[1].get('milestones') == host.param_scheduler[1].milestones
        is_1x = milestones and cfg.optim_wrapper.optimizer.type == 'SGD'
        assert is_1x == (name['schedule'] == '1x')
    else:
        assert name['schedule'] != '1x'


def check_method(name, cfg, model):
    if name['data'] in CLASSES:
        head = model.roi_head.bbox_head if hasattr(model, 'roi_head') else model.bbox_head
        heads = head if isinstance(head, torch.nn.ModuleList) else [head]
        assert all(head.num_classes == CLASSES[name['data']] for head in heads)
    if name['data'] in TASKS:
        assert model.num_classes == TASKS[name['data']]
        assert cfg.train_dataloader.dataset.task == name['data'].partition('-')[0]
    layers = [m for m in model.modules() if isinstance(m, BinaryLayer)]
    found = {
        (type(m.activation).__name__, type(m.weight_binarizer).__name__, m.scale) for m in layers
    }
    hooks = [hook['type'] for hook in cfg.get('custom_hooks') or []]
    method = METHODS[name['method']]
    if method is None:
        assert not layers and not hooks
        return
    if name['method'] in OF_BERT[1:]:  # the feed-forward layers behind ReLU
        found.discard(('ElasticBinary', *method[1:3]))
    assert found == {method[:3]}
    assert hooks == method[3]
    network = name['recipe'].rsplit('_', 2)[0] + '_'
    known = [prefix for prefix in BINARY_LAYERS if network.startswith(f'{prefix}_')]
    assert len(layers) == (BINARY_LAYERS[max(known, key=len)] if known else 16)
    if name['part'] and name['data'] in CLASSES:
        assert any(isinstance(m, BinaryLayer) for m in model.neck.modules())
    for hook in cfg.get('custom_hooks') or []:
        if hook['type'] == AGS:
            assert AdaptiveScale(hook['eta'], hook.get('preserve_norm', False)) == method[2]


def check_step(name, cfg, model):
    for layer in model.modules():
        for binarizer in (getattr(layer, key, None) for key in ('activation', 'weight_binarizer')):
            if isinstance(binarizer, Scheduled):
                binarizer.follow(0.5)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    is_ssd = name['model'] == 'ssd300'
    if name['data'] in TASKS:
        data = {'inputs': text_batch(), 'data_samples': classification_batch(name)['data_samples']}
    elif name['data'] in CLASSES:
        data = detection_batch(300 if is_ssd else 128, name['model'] == 'mask-rcnn')
    else:
        data = classification_batch(name)
    data = model.data_preprocessor(data, training=True)
    if isinstance(model, Student):  # the checkpoint of the teacher is at an address
        teacher = build_teacher(cfg.model.teacher.config).requires_grad_(False).eval()
        model._check_teacher(teacher)
        model._teacher.append(teacher)
    total, _ = model.parse_losses(model.loss(data['inputs'], data['data_samples']))
    total.backward()
    assert total.isfinite()
    trained = {key: p for key, p in model.named_parameters() if p.requires_grad}
    for key, parameter in trained.items():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    before = [p.detach().clone() for p in trained.values()]
    wrapper.step()
    moved = [not torch.equal(p, q) for p, q in zip(trained.values(), before, strict=True)]
    # a few biases have a gradient of zero, and so have the levels of SSD for objects larger than those here
    assert sum(moved) > (0.5 if is_ssd else 0.9) * len(moved)


def classification_batch(name):
    sizes = {'reactnet-a': 64, 'deit-small': 224}
    size = 16 if name['data'] == 'cifar10-mini' else sizes.get(name['model'], 32)
    samples = [DataSample().set_gt_label(label % TASKS.get(name['data'], 4)) for label in range(4)]
    inputs = torch.randint(0, 256, (4, 3, size, size), dtype=torch.uint8)
    return {'inputs': inputs, 'data_samples': samples}
