from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from helpers.text_models import BIT, labeled, text_batch, text_classifier
from mmengine.optim import OptimWrapper
from mmpretrain.structures import DataSample

from surge_mm import TextClassifier
from surge_mm.utils.errors import UsageError


def test_loss_and_predictions_are_those_of_the_logits():
    model = text_classifier(num_classes=3).eval()
    inputs, labels = text_batch(), [2, 0, 1, 2]
    logits = model(inputs)
    loss = model(inputs, labeled(*labels), mode='loss')['loss']
    torch.testing.assert_close(loss, F.cross_entropy(logits, torch.tensor(labels)))
    samples = model(inputs, labeled(*labels), mode='predict')
    for sample, row in zip(samples, logits, strict=True):
        torch.testing.assert_close(sample.pred_score, row.softmax(0))
        assert sample.pred_label.tolist() == [row.argmax().item()]
    assert len(model(inputs, mode='predict')) == 4  # without samples


def test_one_class_is_the_regression_of_a_number():
    model = text_classifier(num_classes=1).eval()
    inputs, targets = text_batch(), [0.5, 5.0, 2.5, 1.0]
    samples = [DataSample().set_gt_score([value]) for value in targets]
    logits = model(inputs)
    loss = model(inputs, samples, mode='loss')['loss']
    torch.testing.assert_close(loss, (logits[:, 0] - torch.tensor(targets)).square().mean())
    predicted = torch.stack([sample.pred_score for sample in model(inputs, samples, 'predict')])
    torch.testing.assert_close(predicted, logits)
    assert 'pred_label' not in samples[0]


def test_it_learns_by_training_steps_of_mmengine():
    model = text_classifier(dropout=0.1)
    wrapper = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=1e-2))
    batch = {'inputs': text_batch(), 'data_samples': labeled(0, 1, 0, 1)}
    losses = [model.train_step(batch, wrapper)['loss'].item() for _ in range(20)]
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize('num_classes', [1, 2])
def test_a_sample_without_its_label_is_an_error(num_classes):
    model = text_classifier(num_classes)
    name = {1: 'gt_score', 2: 'gt_label'}[num_classes]
    with pytest.raises(UsageError, match=f'no {name}'):
        model(text_batch(count=1, length=2), [DataSample()], mode='loss')
    with pytest.raises(UsageError, match=f'no {name}'):
        model(text_batch(count=1, length=2), mode='loss')


@pytest.mark.parametrize(
    'attributes, message',
    [
        ({}, 'Identity has no attribute hidden_size'),
        ({'hidden_size': 3}, 'output of Identity, dict, has no pooled'),
    ],
)
def test_what_an_encoder_lacks_is_named(attributes, message):
    """torch.nn.Identity stands for an encoder of another family."""
    backbone = torch.nn.Identity()
    vars(backbone).update(attributes)
    with (
        mock.patch(
            'surge_mm.models.classifiers.text_classifier.MODELS.build', lambda cfg: backbone
        ),
        pytest.raises(UsageError, match=f'backbone: .*{message}.*An encoder has hidden_size'),
    ):
        TextClassifier({'type': 'Identity'}, num_classes=2)(text_batch())


def test_learned_scales_start_without_padding():
    """Padding would lower the mean of the attention probabilities, and add what the padding token has."""
    scales = {}
    for padding in (0, 5):
        model = text_classifier(**{**BIT, 'linear_cfg': {**BIT['linear_cfg'], 'compensator': None}})
        inputs = text_batch(length=7, padding=padding)
        inputs = {name: values[:3] for name, values in inputs.items()}  # of 7 tokens each
        model(inputs)
        scales[padding] = {
            name: p.item() for name, p in model.named_parameters() if name.endswith('_scale')
        }
    assert len(scales[0]) == 21
    assert scales[5] == pytest.approx(scales[0], rel=1e-5)
