"""A method applied to a config replaces what the previous method set, and nothing else."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from surge_mm.composition.binary_config import binary_config, merged
from surge_mm.composition.methods import METHOD_HOOKS, apply_method
from surge_mm.layers import BinaryLayer
from surge_mm.models import layer_reports
from surge_mm.utils.class_names import class_name
from surge_mm.utils.errors import LaunchError

CONFIGS = Path(__file__).parents[2] / 'configs'
LITE = {'type': 'surge_mm.SurgeConv2d', 'compensator': {'eta': 0.1, 'tied': True}}


def method(name):
    return Config.fromfile(CONFIGS / '_base_' / 'methods' / f'{name}.py')


@pytest.mark.parametrize(
    'path, name',
    [
        ('resnet/adabin_resnet20_600e_cifar10.py', 'adabin'),
        ('resnet/surge-reactnet_resnet18_128e-step2_in1k.py', 'surge-reactnet'),
        ('faster_rcnn/faster-rcnn_r18_fpn_12e_voc0712.py', 'fp'),
        ('mask_rcnn/surge_mask-rcnn-1bit_r18_fpn_1x_coco.py', 'surge'),
        ('ssd/ste_ssd300-1bit_vgg16_12e_coco.py', 'ste'),
        ('glue/bert-base_3e_sst2.py', 'fp'),
        ('glue/surge_bert-base-1bit_5e_mnli.py', 'surge'),
        ('glue/bit_bert-base-1bit_10e-step2_sst2.py', 'bit'),
    ],
)
def test_recipe_and_method_give_the_config_of_both(path, name):
    expected = Config.fromfile(CONFIGS / path).to_dict()
    for key in ('conv_cfg', 'bert'):  # variables that the config inherits from its method
        expected.pop(key, None)
    recipe = Path(path).stem.removeprefix(f'{name}_')
    cfg = Config.fromfile(CONFIGS / '_base_' / 'recipes' / f'{recipe}.py')
    before = cfg.to_dict()
    assert apply_method(cfg, method(name)).to_dict() == expected
    assert cfg.to_dict() == before


def test_method_of_a_config_is_replaced_and_its_other_hooks_are_kept():
    cfg = Config.fromfile(CONFIGS / 'resnet' / 'irnet_resnet20_600e_cifar10.py')
    cfg.custom_hooks.insert(0, {'type': 'EMAHook'})
    cfg.custom_hooks.append({'type': 'surge_mm.AdaptiveGradientScalerHook', 'eta': 0.3})
    composed = apply_method(cfg, method('surge-recu'))
    assert [hook['type'] for hook in composed.custom_hooks] == [
        'EMAHook',
        'surge_mm.BinarizerScheduleHook',
        'surge_mm.AdaptiveGradientScalerHook',
    ]
    assert composed.custom_hooks[-1].eta == 0.1
    assert composed.model.backbone.conv_cfg == method('surge-recu').conv_cfg
    assert apply_method(cfg, method('ste')).custom_hooks == [{'type': 'EMAHook'}]


def test_method_for_bert_is_replaced_with_all_of_its_arguments():
    cfg = Config.fromfile(CONFIGS / 'glue' / 'bit-2bit_bert-base-1bit_10e_sst2.py')
    assert cfg.model.backbone.attention_bits == 2
    assert cfg.model.backbone.linear_cfg.activation == {'type': 'ElasticSign', 'bits': 2}
    surge = apply_method(cfg, method('surge'))
    assert surge.model.backbone == {
        'type': 'surge_mm.SurgeBert',
        'init_cfg': None,
        'linear_cfg': {'type': 'surge_mm.SurgeConv2d', 'compensator': {'eta': 0.1}},
    }
    assert apply_method(surge, method('bit-2bit')).model == cfg.model
    composed = apply_method(surge, method('surge-bit'))
    assert [hook['type'] for hook in composed.custom_hooks] == [
        'surge_mm.AdaptiveGradientScalerHook'
    ]
    assert composed.model.backbone.linear_cfg.compensator == {'eta': 0.1}


def test_method_for_bert_is_refused_for_another_backbone():
    cfg = Config.fromfile(CONFIGS / '_base_' / 'recipes' / 'resnet20_600e_cifar10.py')
    with pytest.raises(LaunchError, match=r'bit.py.* is for the backbone surge_mm.SurgeBert, and'):
        apply_method(cfg, method('bit'))


def test_full_precision_of_a_binarized_model_keeps_its_structure():
    cfg = Config.fromfile(CONFIGS / 'bccd' / 'ste_retinanet-1bit_r18-light_40e_bccd.py')
    full = apply_method(cfg, method('fp'))
    assert full.model.structure_only is True and 'binary' not in full.model
    assert full.model.backbone.conv_cfg is None
    assert apply_method(full, method('ste')).model == apply_method(cfg, method('ste')).model
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(full.model)
    assert not any(isinstance(module, BinaryLayer) for module in model.modules())
    assert not any(report.binary for report in layer_reports(model))


@pytest.mark.parametrize('kind', ['Binarized', 'DistilledDetector'])
def test_methods_set_the_binary_layers_of_models_binarized_by_rules(kind):
    model = {'type': f'surge_mm.{kind}', 'base_type': 'mmdet.FCOS', 'neck': {'type': 'FPN'}}
    cfg = Config({'model': model})
    assert apply_method(cfg, method('surge-lite')).model == {**model, 'binary': LITE}
    assert apply_method(cfg, method('fp')).model == {**model, 'structure_only': True}


def test_config_over_a_host_gets_the_method_wherever_it_has_binary_layers(tmp_path):
    (tmp_path / 'mine.py').write_text(
        """
_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
custom_imports = dict(imports=['surge_mm'])
ste = dict(type='surge_mm.SurgeConv2d', compensator=None)
model = dict(
    backbone=dict(_delete_=True, type='surge_mm.SurgeResNet', depth=18),
    neck=dict(in_channels=[64, 128, 256, 512], conv_cfg=ste),
    bbox_head=dict(conv_cfg=dict(type='ConvWS')),
)
"""
    )
    composed = apply_method(Config.fromfile(tmp_path / 'mine.py'), method('surge-lite'))
    assert composed.model.backbone.conv_cfg == LITE
    assert composed.model.neck.conv_cfg == LITE
    assert composed.model.bbox_head.conv_cfg == {'type': 'ConvWS'}


def test_further_settings_of_a_method_are_merged():
    cfg = Config.fromfile(CONFIGS / '_base_' / 'recipes' / 'resnet20_600e_cifar10.py')
    mine = method('surge')
    mine.optim_wrapper = {'optimizer': {'lr': 0.05}}
    composed = apply_method(cfg, mine)
    assert composed.optim_wrapper.optimizer.lr == 0.05
    assert composed.optim_wrapper.optimizer.momentum == 0.9


def test_config_without_a_place_for_binary_layers_is_refused():
    cfg = Config.fromfile(CONFIGS / '_base_' / 'recipes' / 'ssd300_vgg16_12e_voc0712.py')
    with pytest.raises(
        LaunchError, match='ssd300_vgg16.* has no binary layers .*surge_mm.Binarized'
    ):
        apply_method(cfg, method('ste'))
    with pytest.raises(LaunchError, match=r'has no model\.type'):
        apply_method(method('surge'), method('ste'))


@pytest.mark.parametrize('name', ['ste', 'dpgc', 'surge', 'fp'])
def test_a_method_replaces_the_hooks_of_a_config_that_the_tool_wrote(name):
    base = Config.fromfile(CONFIGS / 'demo' / 'fcos_r18-light_10e_digits.py')
    written = merged(base, binary_config(base, 'a.py', method('surge-recu'), 'a.pth'))
    composed = apply_method(written, method(name))
    hooks = [*composed.get('custom_hooks', []), *composed.default_hooks.values()]
    found = [hook['type'] for hook in hooks if hook and class_name(hook['type']) in METHOD_HOOKS]
    assert found == [hook.type for hook in method(name).get('custom_hooks', [])]
    assert composed.default_hooks.logger.interval == 25
