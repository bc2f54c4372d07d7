"""Teachers that match their student, and those that cannot teach it."""

from unittest import mock

import pytest
import torch
from helpers.distillation import (
    NORMALIZATION,
    detector,
    distilled,
    losses_of,
    save_teacher,
    student,
)
from helpers.narrow import config
from mmengine.config import ConfigDict
from mmengine.logging import MessageHub

from surge_mm.utils.errors import UsageError

BAD_TEACHERS = {
    'classes': ({'num_classes': 4}, 'its number of classes is 4, that of the model is 3'),
    'channels': (
        {'channels': 24},
        r'its outputs of the neck have the shapes .*24, 16, 16.*, those of the model .*16, 16, 16',
    ),
    'strides': (
        {'neck': {**detector().neck, 'start_level': 0, 'end_level': 2}},
        r'its outputs of the neck have the shapes .*32, 32.*, those of the model .*16, 16',
    ),
    'head': ({'head': 'fcos'}, 'its anchors is None, that of the model is .*set cls_weight=0'),
    'anchors': (
        {'anchors': {'octave_base_scale': 8}},
        r'its anchors is \[\[\[-45.2.*, that of the model is \[\[\[-22.6',
    ),
    'normalization': (
        {'data_preprocessor': {'type': 'DetDataPreprocessor', **NORMALIZATION}},
        r'its data_preprocessor .* is \(\[123.675.*False\), that of the model is .*True\)',
    ),
}


@pytest.mark.parametrize('case', BAD_TEACHERS)
def test_a_teacher_that_does_not_match_is_refused(case, retina, tmp_path):
    changes, message = BAD_TEACHERS[case]
    changes = dict(changes)
    anchors = changes.pop('anchors', {})
    other = detector(**changes)
    if anchors:
        other.bbox_head.anchor_generator.update(anchors)
    model = student(retina[0], save_teacher(tmp_path, other, name='other'))
    with pytest.raises(UsageError, match=f'teacher: .*{message}'):
        model.init_weights()
        losses_of(model)


def test_a_teacher_of_two_stages_is_refused(retina, tmp_path):
    cfg = config('faster-rcnn-1bit_r18_fpn', tmp_path, tmp_path).model
    cfg.roi_head.bbox_head.num_classes = 3
    cfg.data_preprocessor = detector().data_preprocessor
    model = student(retina[0], save_teacher(tmp_path, cfg, name='two'))
    with pytest.raises(UsageError, match='its number of stages is 2, that of the model is 1'):
        model.init_weights()


@pytest.mark.parametrize('names, refused', [('xyz', False), ('xzy', True), ('abc', True)])
def test_names_of_classes_must_agree(names, refused, retina, tmp_path):
    cfg = retina[0]
    model = student(cfg, save_teacher(tmp_path, cfg, classes=tuple('xyz'), name='named'))
    MessageHub.get_current_instance().update_info('dataset_meta', {'classes': tuple(names)})
    if refused:
        with pytest.raises(UsageError, match=r"trained with classes=\['x', 'y', 'z'\], the .*\["):
            losses_of(model)
    else:
        assert distilled(losses_of(model))


def test_a_checkpoint_that_does_not_fit_is_refused(retina, tmp_path):
    cfg, teacher = retina
    content = torch.load(teacher['checkpoint'])
    own = content['state_dict']
    cases = [
        ('missing', {k: v for k, v in own.items() if 'retina_cls' not in k}, 'retina_cls.weight'),
        ('shape', {**own, 'bbox_head.retina_reg.bias': torch.zeros(3)}, r'is \(3,\) .* \(8,\)'),
    ]
    for name, weights, message in cases:
        torch.save({'state_dict': weights}, tmp_path / f'{name}.pth')
        model = student(cfg, {**teacher, 'checkpoint': str(tmp_path / f'{name}.pth')})
        with pytest.raises(UsageError, match=f'teacher.py.*{name}.pth.* not match.*{message}'):
            model.init_weights()
    (tmp_path / 'text.py').write_text('a = 1')
    (tmp_path / 'open.py').write_text('model = dict(')
    (tmp_path / 'net.py').write_text("model = dict(type='mmdet.RetinaNet', nek=1)")
    for teacher_, message in [
        ({**teacher, 'checkpoint': 'no.pth'}, "teacher: .*checkpoint 'no.pth' does not exist"),
        ({**teacher, 'config': 'no.py'}, "teacher: config='no.py': there is no such file"),
        ({**teacher, 'config': str(tmp_path / 'text.py')}, 'text.py.* has no model'),
        ({**teacher, 'config': str(tmp_path / 'open.py')}, "teacher: .*open.py': SyntaxError"),
        ({**teacher, 'config': str(tmp_path / 'net.py')}, "teacher: .*net.py': .*argument 'nek'"),
    ]:
        with pytest.raises(UsageError, match=message):
            student(cfg, teacher_).init_weights()


def test_tensors_without_a_place_in_the_teacher_are_named(retina, tmp_path):
    cfg, teacher = retina
    deeper = detector()
    deeper.bbox_head.stacked_convs = 5
    checkpoint = save_teacher(tmp_path, deeper, name='deeper')['checkpoint']
    for path, said in ((checkpoint, True), (teacher['checkpoint'], False)):
        with mock.patch('mmengine.runner.checkpoint.print_log') as log:
            student(cfg, {**teacher, 'checkpoint': path}).init_weights()
        texts = [call.args[0] for call in log.call_args_list if 'unexpected key' in call.args[0]]
        assert len(texts) == said
        assert not said or 'bbox_head.cls_convs.4.conv.weight' in texts[0]


NO_NECK = detector(
    neck=None,
    backbone={
        **detector().backbone,
        'out_indices': (1, 2, 3),
    },
)
NO_DETECTOR = ConfigDict({'type': 'mmdet.ResNet', 'depth': 18, 'base_channels': 8})


@pytest.mark.parametrize(
    'other, message',
    [
        (NO_NECK, 'teacher: RetinaNet has no neck, whose outputs distillation compares'),
        (NO_DETECTOR, 'teacher: ResNet must be a SingleStageDetector or TwoStageDetector'),
    ],
    ids=['no neck', 'no detector'],
)
def test_a_teacher_without_outputs_to_compare_is_refused(other, message, retina, tmp_path):
    model = student(retina[0], save_teacher(tmp_path, other, name='other'))
    with pytest.raises(UsageError, match=message):
        model.init_weights()


def test_a_checkpoint_of_ranks_and_of_another_code_version_is_taken(retina, tmp_path):
    cfg, teacher = retina
    own = torch.load(teacher['checkpoint'])['state_dict']
    weights = {f'module.{k}': v for k, v in own.items() if 'num_batches' not in k}
    torch.save(weights, tmp_path / 'old.pth')
    model = student(cfg, {**teacher, 'checkpoint': str(tmp_path / 'old.pth')})
    model.init_weights()
    assert torch.equal(
        model.teacher.bbox_head.retina_cls.weight, own['bbox_head.retina_cls.weight']
    )
