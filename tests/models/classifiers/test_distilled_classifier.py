import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.runner.checkpoint import get_state_dict
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

from surge_mm.deploy import pack
from surge_mm.utils.errors import UsageError


@pytest.fixture(autouse=True)
def scope():
    """Set the scope of a classification config, without classes; other tests may have left others."""
    MessageHub.get_current_instance().update_info('dataset_meta', {})
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


def classifier(**options):
    return {
        'type': 'mmpretrain.ImageClassifier',
        'backbone': {
            'type': 'surge_mm.SurgeResNet',
            'depth': 18,
            'base_channels': 4,
            'stem': 'cifar',
            'out_indices': (3,),
        },
        'neck': {'type': 'mmpretrain.GlobalAveragePooling'},
        'head': {
            'type': 'mmpretrain.LinearClsHead',
            'num_classes': 5,
            'in_channels': 32,
            'loss': {'type': 'mmpretrain.CrossEntropyLoss'},
        },
        **options,
    }


def save_teacher(folder, classes=None, **options):
    """Write config and checkpoint of a teacher, and return the key ``teacher`` and the model."""
    cfg = Config({'default_scope': 'mmpretrain', 'model': classifier(**options)})
    cfg.dump(folder / 'teacher.py')
    torch.manual_seed(1)
    model = MODELS.build(cfg.model)
    meta = {'dataset_meta': {'classes': classes}} if classes else {}
    torch.save({'meta': meta, 'state_dict': model.state_dict()}, folder / 'teacher.pth')
    paths = {'config': str(folder / 'teacher.py'), 'checkpoint': str(folder / 'teacher.pth')}
    return paths, model.eval()


@pytest.fixture
def teacher(tmp_path):
    return save_teacher(tmp_path)[0]


def student(teacher, **options):
    torch.manual_seed(0)
    return MODELS.build(classifier(type='surge_mm.DistilledClassifier', teacher=teacher, **options))


def batch():
    torch.manual_seed(2)
    return torch.randn(6, 3, 16, 16), [DataSample().set_gt_label(i % 5) for i in range(6)]


def test_loss_is_the_cross_entropy_with_the_teachers_distribution(tmp_path):
    paths, teacher = save_teacher(tmp_path)
    model = student(paths, label_weight=0.5)
    model.init_weights()
    inputs, samples = batch()
    losses = model.loss(inputs, samples)
    with torch.no_grad():
        target = teacher(inputs).softmax(1)
        logits = model(inputs)
    expected = -(target.double() * logits.double().log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(losses['loss_distill'].double(), expected, rtol=1e-5, atol=1e-6)
    labels = torch.tensor([i % 5 for i in range(6)])
    expected = 0.5 * torch.nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(losses['loss_label'], expected)


def test_labels_count_only_if_asked(teacher):
    assert set(student(teacher).loss(*batch())) == {'loss_distill'}


def test_autocast_changes_the_loss_little(teacher):
    model = student(teacher).eval()
    expected = model.loss(*batch())['loss_distill']
    with torch.autocast('cpu', torch.bfloat16):
        found = model.loss(*batch())['loss_distill']
    assert found.dtype == torch.float32 and found != expected
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0)


def test_the_teacher_stays_apart(tmp_path):
    paths, teacher = save_teacher(tmp_path)
    model = student(paths)
    model.init_weights()
    model.train()
    before = copy.deepcopy(model.teacher.state_dict())
    sum(model.loss(*batch()).values()).backward()
    assert not model.teacher.training
    assert all(p.grad is None for p in model.teacher.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.teacher.state_dict().items())
    assert not any('teacher' in key for key in get_state_dict(model))
    assert not any('teacher' in name for name, _ in model.named_parameters())
    for mine, theirs in zip(model.teacher.parameters(), teacher.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_the_teacher_moves_with_the_model_and_is_copied_with_it(teacher):
    model = student(teacher)
    model.init_weights()
    assert {p.dtype for p in model.double().teacher.parameters()} == {torch.float64}
    other = copy.deepcopy(model)
    assert other.teacher is not model.teacher
    inputs, samples = batch()
    losses = [net.loss(inputs.double(), samples)['loss_distill'] for net in (model, other)]
    assert torch.equal(*losses)


@pytest.mark.parametrize(
    'options, message',
    [
        (
            {'head': {**classifier()['head'], 'num_classes': 7}},
            'its number of classes is 7, that of the model is 5',
        ),
        (
            {'data_preprocessor': {'mean': [1.0, 2.0, 3.0], 'std': [4.0, 5.0, 6.0]}},
            r'its data_preprocessor .* is \(\[1.0, 2.0, 3.0\], .*, that of the model is \(None',
        ),
        ({'data_preprocessor': {'to_rgb': True}}, r'None, True\), that of the .*None, False\)'),
    ],
    ids=['classes', 'normalization', 'channels'],
)
def test_a_teacher_that_cannot_teach_is_refused(options, message, tmp_path):
    paths, _ = save_teacher(tmp_path, **options)
    with pytest.raises(UsageError, match=f'teacher: .*{message}'):
        student(paths).init_weights()


@pytest.mark.parametrize('names', ['vwxyz', 'zyxwv'])
def test_names_of_classes_must_agree(names, tmp_path):
    paths, _ = save_teacher(tmp_path, classes=tuple('vwxyz'))
    MessageHub.get_current_instance().update_info('dataset_meta', {'classes': list(names)})
    model = student(paths)
    if names == 'vwxyz':
        assert model.loss(*batch())
    else:
        with pytest.raises(
            UsageError, match=r"teacher: it was trained with classes=\['v', .*\['z'"
        ):
            model.loss(*batch())


def test_wrong_and_missing_files_are_named(teacher, tmp_path):
    wider = classifier()['backbone'] | {'base_channels': 8}
    head = classifier()['head'] | {'in_channels': 64}
    (tmp_path / 'wider').mkdir()
    other, _ = save_teacher(tmp_path / 'wider', backbone=wider, head=head)
    (tmp_path / 'net.py').write_text("model = dict(type='mmpretrain.LeNet5', num_classes=5)")
    for wrong, message in [
        ({'config': str(tmp_path / 'net.py')}, 'LeNet5 must be an ImageClassifier'),
        ({'checkpoint': other['checkpoint']}, 'teacher.py.*wider/teacher.pth.* does not match'),
        ({'checkpoint': 'none.pth'}, ".*checkpoint 'none.pth' does not exist"),
        ({'checkpoint': 'http://127.0.0.1:9/none.pth'}, 'none.pth.* cannot be read: .*refused'),
        ({'config': 'none.py'}, "config='none.py': there is no such file"),
        ({'config': 'mmpretrain::resnet/none.py'}, "config 'mmpretrain::resnet/none.py': "),
    ]:  # fmt: skip
        with pytest.raises(UsageError, match=f'^teacher: .*{message}'):
            student({**teacher, **wrong}).init_weights()


def test_the_config_of_a_model_as_teacher_is_refused_with_what_to_write():
    with pytest.raises(
        UsageError, match=r'must be dict\(config=..., checkpoint=...\), the paths of'
    ):
        student(classifier(init_cfg={'type': 'Pretrained', 'checkpoint': 'teacher.pth'}))


def test_a_negative_weight_is_refused(teacher):
    with pytest.raises(ValueError, match='label_weight=-1'):
        student(teacher, label_weight=-1)


def run(teacher, folder, **settings):
    """Train for two epochs of one batch each, with averaged weights, and return the last checkpoint."""
    torch.manual_seed(2)
    images = [
        {'inputs': torch.randint(256, (3, 16, 16)), 'data_samples': DataSample().set_gt_label(i)}
        for i in range(5)
    ]
    model = classifier(type='surge_mm.DistilledClassifier', teacher=teacher)
    sampler = {'type': 'DefaultSampler', 'shuffle': False}
    Runner(
        {**model, 'data_preprocessor': {'type': 'ClsDataPreprocessor'}},
        str(folder),
        train_dataloader={'dataset': images, 'batch_size': 5, 'num_workers': 0, 'sampler': sampler},
        train_cfg={'by_epoch': True, 'max_epochs': 2},
        optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.01}},
        custom_hooks=[{'type': 'EMAHook', 'momentum': 0.1}],
        randomness={'seed': 0},
        default_scope='mmpretrain',
        experiment_name=folder.name,
        **settings,
    ).train()
    return torch.load(folder / 'epoch_2.pth')


def test_a_resumed_run_with_averaged_weights_ends_with_the_same_bits(tmp_path):
    teacher, _ = save_teacher(tmp_path, data_preprocessor={'type': 'ClsDataPreprocessor'})
    whole = run(teacher, tmp_path / 'whole')
    start = str(tmp_path / 'whole/epoch_1.pth')
    resumed = run(teacher, tmp_path / 'resumed', resume=True, load_from=start)
    for key in ('state_dict', 'ema_state_dict'):
        assert not any('teacher' in name for name in whole[key])
        assert whole[key].keys() == resumed[key].keys()
        assert all(torch.equal(value, resumed[key][name]) for name, value in whole[key].items())
        assert not all(torch.equal(v, torch.load(start)[key][k]) for k, v in whole[key].items())


@torch.no_grad()
def test_a_packed_student_needs_no_teacher():
    model = student({'config': 'nowhere.py', 'checkpoint': 'nowhere.pth'}).eval()
    inputs, _ = batch()
    expected = model.to(memory_format=torch.channels_last)(inputs)
    packed = copy.deepcopy(pack(model).to('cpu'))
    assert torch.equal(packed(inputs), expected)
