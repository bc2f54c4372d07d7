import copy
import json

import pytest
import torch
from helpers.text_models import SIZES, labeled, text_batch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import MODELS
from mmengine.runner.checkpoint import get_state_dict

from surge_mm.analysis.forward import random_input
from surge_mm.deploy.packed_file.trial_run import outputs_on_image
from surge_mm.models.backbones.surge_bert import BertOutput
from surge_mm.models.classifiers.text_distillation_losses import (
    direction_loss,
    hidden_loss,
    logit_loss,
    relation_loss,
)
from surge_mm.utils.errors import UsageError

META = {'task': 'sst2', 'classes': ('negative', 'positive'), 'vocabulary': 'abc', 'lowercase': True}


def classifier(num_classes=2, linear_cfg=None, **sizes):
    backbone = {
        'type': 'surge_mm.SurgeBert',
        **SIZES,
        'hidden_dropout_prob': 0.0,
        'attention_probs_dropout_prob': 0.0,
        'linear_cfg': linear_cfg,
        **sizes,
    }
    return {
        'type': 'surge_mm.TextClassifier',
        'backbone': backbone,
        'num_classes': num_classes,
        'dropout': 0.0,
    }


def save_teacher(folder, meta=META, model=None, **settings):
    """Write config and checkpoint of a teacher, and return the key ``teacher``."""
    model = model or classifier(**settings)
    Config({'default_scope': 'mmpretrain', 'model': model}).dump(folder / 'teacher.py')
    torch.manual_seed(3)
    built = MODELS.build(copy.deepcopy(model))
    built.init_weights()
    torch.save({'meta': {'dataset_meta': meta}, 'state_dict': built.state_dict()}, folder / 't.pth')
    return {'config': str(folder / 'teacher.py'), 'checkpoint': str(folder / 't.pth')}


def student(teacher, linear_cfg={'type': 'surge_mm.SurgeLinear'}, **settings):  # noqa: B006
    model = {**classifier(linear_cfg=linear_cfg), 'type': 'surge_mm.DistilledTextClassifier'}
    torch.manual_seed(0)
    return MODELS.build({**model, 'teacher': teacher, **settings})


@pytest.fixture
def teacher(tmp_path):
    return save_teacher(tmp_path)


@pytest.fixture(autouse=True)
def hub():
    """Return the message hub, into which a run writes the meta information of its training set, without any."""
    current = MessageHub.get_current_instance()
    current.update_info('dataset_meta', {})
    yield current
    current.update_info('dataset_meta', {})


def batch():
    return text_batch(padding=2), labeled(0, 1, 1, 0)


def test_losses_compare_what_student_and_teacher_compute(teacher):
    weights = {'hidden_weight': 2.0, 'relation_weight': 3.0, 'label_weight': 0.5}
    model = student(teacher, hidden='direction', **weights)
    model.init_weights()
    inputs, samples = batch()
    losses = model.loss(inputs, samples)
    mask = torch.tensor([[1] * 7 + [0] * 2] * 3 + [[1] * 6 + [0] * 3]).bool()
    inputs['attention_mask'] = mask.long()
    own, theirs = (one.bert(inputs, output_hidden_states=True) for one in (model, model.teacher))
    relations = [(*x.queries, *x.keys, *x.values) for x in (own, theirs)]
    expected = {
        'loss_distill': logit_loss(model(inputs), model.teacher(inputs)),
        'loss_distill_hidden': 2 * direction_loss(own.hidden_states, theirs.hidden_states, mask),
        'loss_distill_relations': 3 * relation_loss(*relations, mask),
        'loss_label': 0.5 * torch.nn.functional.cross_entropy(
            model(inputs), torch.tensor([0, 1, 1, 0])
        ),
    }  # fmt: skip
    assert losses.keys() == expected.keys()
    torch.testing.assert_close(losses, expected)
    assert len(own.hidden_states) == 3 and len(relations[0]) == 6


def test_the_defaults_are_the_logits_and_the_squared_errors_of_hidden_states(teacher):
    model = student(teacher)
    model.init_weights()
    inputs, samples = batch()
    losses = model.loss(inputs, samples)
    own, theirs = (
        one.bert(inputs, output_hidden_states=True).hidden_states for one in (model, model.teacher)
    )
    mask = inputs['attention_mask'].bool()
    assert losses.keys() == {'loss_distill', 'loss_distill_hidden'}
    torch.testing.assert_close(losses['loss_distill_hidden'], hidden_loss(own, theirs, mask))


def test_the_teacher_stays_apart(teacher):
    model = student(teacher, relation_weight=1.0)
    model.init_weights()
    model.train()
    before = copy.deepcopy(model.teacher.state_dict())
    sum(model.loss(*batch()).values()).backward()
    assert not any(module.training for module in model.teacher.modules())
    assert all(p.grad is None and not p.requires_grad for p in model.teacher.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.teacher.state_dict().items())
    assert (
        get_state_dict(model).keys()
        == MODELS.build(classifier(linear_cfg={'type': 'surge_mm.SurgeLinear'})).state_dict().keys()
    )
    assert all(p.grad is not None for p in model.parameters())
    assert {p.dtype for p in model.double().teacher.parameters()} == {torch.float64}


def test_the_student_can_start_from_the_teacher(teacher):
    model = student(teacher, init='teacher')
    model.init_weights()
    theirs = model.teacher.state_dict()
    own = model.state_dict()
    assert theirs.keys() <= own.keys()
    assert all(torch.equal(own[key], value) for key, value in theirs.items())
    real = student(teacher, linear_cfg=None, init='teacher')
    real.init_weights()
    assert real.loss(*batch())['loss_distill_hidden'] == 0


def test_only_logits_are_compared_with_a_teacher_of_other_layers(tmp_path):
    other = save_teacher(tmp_path, num_hidden_layers=1, hidden_size=8)
    model = student(other, hidden_weight=0.0)
    model.init_weights()
    assert model.loss(*batch()).keys() == {'loss_distill'}
    with pytest.raises(UsageError, match='its number of layers is 1.* is 2. To compare the logits'):
        student(other).init_weights()


@pytest.mark.parametrize(
    'settings, message',
    [
        ({'num_classes': 3}, 'its num_classes is 3, that of the model is 2'),
        ({'vocab_size': 41}, 'its vocab_size is 41, that of the model is 40'),
        ({'hidden_size': 8}, 'its hidden_size is 8.*hidden_weight=0'),
        ({'model': {'type': 'mmpretrain.ImageClassifier', 'backbone': {'type': 'mmpretrain.LeNet5'},
                    'data_preprocessor': {'type': 'mmpretrain.ClsDataPreprocessor'}}},
         'ImageClassifier must be a surge_mm.TextClassifier'),
    ],
)  # fmt: skip
def test_a_teacher_that_cannot_teach_is_refused(tmp_path, settings, message):
    with pytest.raises(UsageError, match=f'teacher: .*{message}'):
        student(save_teacher(tmp_path, **settings)).init_weights()


@pytest.mark.parametrize(
    'change',
    [{'task': 'cola'}, {'classes': ('positive', 'negative')}, {'vocabulary': 'x'},
     {'lowercase': False}],
)  # fmt: skip
def test_a_teacher_of_other_labels_or_another_vocabulary_is_refused(teacher, hub, change):
    hub.update_info('dataset_meta', META)
    model = student(teacher)
    model.init_weights()
    model.loss(*batch())
    hub.update_info('dataset_meta', {**META, **change})
    with pytest.raises(UsageError, match=rf'teacher: it was trained with {next(iter(change))}='):
        model.loss(*batch())


@pytest.mark.parametrize(
    'change, message',
    [
        ({'teacher': {'config': 'a.py'}}, r'must be dict\(config=..., checkpoint=...\)'),
        ({'hidden': 'cosine'}, "hidden='cosine' must be 'mse' or 'direction'"),
        ({'relation_weight': -1.0}, 'relation_weight=-1.0'),
        ({'init': 'student'}, "init='student' must be 'teacher' or None"),
        ({'temperature': 2}, "unknown argument 'temperature'"),
    ],
)
def test_bad_arguments_are_named(teacher, change, message):
    with pytest.raises(UsageError, match=message):
        student(**{'teacher': teacher, **change})


@pytest.mark.parametrize(
    'key, file', [('config', 'none.py'), ('checkpoint', 'none.pth')]
)  # fmt: skip
def test_missing_files_of_the_teacher_are_named(teacher, key, file):
    with pytest.raises(UsageError, match=f'teacher: .*{file}'):
        student({**teacher, key: file}).init_weights()


def hugging_face_teacher(folder, model=None, **config):
    """Write a folder of Hugging Face with the weights of a teacher, and return both keys ``teacher``."""
    from safetensors.torch import save_file

    teacher = save_teacher(folder, model=model)
    save_file(torch.load(teacher['checkpoint'])['state_dict'], folder / 'model.safetensors')
    sizes = {'model_type': 'bert', 'id2label': {'0': 'NEGATIVE', '1': 'POSITIVE'}, **SIZES}
    (folder / 'config.json').write_text(json.dumps({**sizes, **config}))
    return teacher, {**teacher, 'checkpoint': str(folder)}


def test_a_folder_of_hugging_face_teaches_as_the_checkpoint_of_the_same_weights(tmp_path, hub):
    hub.update_info('dataset_meta', META)
    losses = []
    for teacher in hugging_face_teacher(tmp_path):
        model = student(teacher, init='teacher', relation_weight=1.0)
        model.init_weights()
        losses.append(model.loss(*batch()))
    assert losses[0] == losses[1]
    assert not any(p.requires_grad or module.training
                   for module in model.teacher.modules() for p in module.parameters())  # fmt: skip


def test_a_folder_with_the_labels_in_another_order_is_refused(tmp_path, hub):
    hub.update_info('dataset_meta', META)
    labels = {'1': 'negative', '0': 'positive'}
    _, teacher = hugging_face_teacher(tmp_path, id2label=labels)
    model = student(teacher)
    model.init_weights()
    with pytest.raises(UsageError, match=r"labels of its folder are \['positive', 'negative'\]"):
        model.loss(*batch())


def test_a_folder_without_a_classifier_or_of_other_sizes_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    _, teacher = hugging_face_teacher(tmp_path, hidden_size=8)
    with pytest.raises(UsageError, match='teacher: checkpoint: .*hidden_size=8 is 16 in the model'):
        student(teacher).init_weights()
    weights = load_file(tmp_path / 'model.safetensors')
    encoder = {key: value for key, value in weights.items() if 'classifier' not in key}
    save_file(encoder, tmp_path / 'model.safetensors')
    with pytest.raises(UsageError, match='teacher: checkpoint: .*has no classifier'):
        student(teacher).init_weights()


class BagOfWords(torch.nn.Module):
    """An encoder of another family: without BERT's names of modules, config and, as asked for, hidden states."""

    hidden_size = 16

    def __init__(self, states=True):
        super().__init__()
        self.tokens = torch.nn.Embedding(SIZES['vocab_size'], 16)
        self.first, self.second = torch.nn.Linear(16, 16), torch.nn.Linear(16, 16)
        self.states = states

    def forward(self, inputs, output_hidden_states=False):
        x = self.tokens(inputs['input_ids'])
        states = [x, self.first(x), self.second(self.first(x))]
        kept = tuple(states) if output_hidden_states and self.states else ()
        return BertOutput(states[-1].mean(1), kept)


MODELS.register_module(module=BagOfWords)


def bag_of_words(**settings):
    model = classifier()
    rules = [{'name': 'second', 'to': 'binary'}, {'name': '*', 'to': 'keep'}]
    binarized = {'type': 'surge_mm.Binarized', 'base_type': 'BagOfWords', 'rules': rules}
    return {**model, 'backbone': {**binarized, **settings}}


def test_an_encoder_of_another_family_is_taught_and_runs_on_random_tokens(tmp_path):
    teacher = save_teacher(tmp_path, model=bag_of_words())
    backbone = bag_of_words()['backbone']
    model = student(teacher, backbone=backbone)
    model.init_weights()
    losses = model.loss(*batch())
    assert losses.keys() == {'loss_distill', 'loss_distill_hidden'} and model.training
    model.data_preprocessor = MODELS.build({'type': 'surge_mm.TextDataPreprocessor'})
    found = outputs_on_image(model.eval(), (8, 8))
    assert found['prediction (call 0).0.pred_score'].shape == (2,)
    assert model(random_input(model, (5,))).shape == (1, 2)
    model = student(save_teacher(tmp_path, num_hidden_layers=1), backbone=backbone)
    model.init_weights()
    with pytest.raises(UsageError, match='has 3 hidden_states, and that of the teacher 2'):
        model.loss(*batch())


@pytest.mark.parametrize(
    'settings, name', [({}, '0 hidden_states'), ({'relation_weight': 1.0, 'hidden_weight': 0.0}, '0 queries')]
)  # fmt: skip
def test_an_encoder_without_what_is_compared_is_refused(tmp_path, settings, name):
    model = student(
        save_teacher(tmp_path, num_hidden_layers=2), backbone=bag_of_words(states=False)['backbone'], **settings
    )  # fmt: skip
    model.init_weights()
    with pytest.raises(UsageError, match=f'the encoder of the model has {name}.*hidden_weight=0'):
        model.loss(*batch())
