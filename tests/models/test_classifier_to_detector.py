"""A classification checkpoint initializes the backbone of a detector by init_cfg alone."""

import pytest
import torch
from mmdet.registry import MODELS as DETECTORS
from mmengine.registry import DefaultScope
from mmengine.runner.checkpoint import save_checkpoint
from mmpretrain.registry import MODELS as CLASSIFIERS

from surge_mm.layers import compensated_layers


@pytest.fixture(autouse=True)
def scope():
    """Set the scope of a classification config; other tests may have left another."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


BACKBONE = {
    'type': 'surge_mm.SurgeResNet',
    'depth': 18,
    'base_channels': 8,
    'stem': 'light',
}


def conv_cfg(compensator):
    return {'type': 'surge_mm.SurgeConv2d', 'compensator': compensator}


@pytest.fixture
def trained(tmp_path):
    """Train a classifier for one step; return it and the path of its checkpoint."""

    def make(compensator):
        torch.manual_seed(1)
        model = CLASSIFIERS.build(
            {
                'type': 'mmpretrain.ImageClassifier',
                'backbone': {**BACKBONE, 'out_indices': (3,), 'conv_cfg': conv_cfg(compensator)},
                'neck': {'type': 'mmpretrain.GlobalAveragePooling'},
                'head': {'type': 'mmpretrain.LinearClsHead', 'num_classes': 3, 'in_channels': 64},
            }
        )
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model(torch.randn(2, 3, 64, 64)).square().sum().backward()
        optimizer.step()
        path = tmp_path / 'classifier.pth'
        save_checkpoint({'state_dict': model.state_dict(), 'meta': {}}, str(path))
        return model.backbone, path

    return make


def backbone_of_a_detector(path, compensator):
    torch.manual_seed(2)
    init_cfg = {'type': 'Pretrained', 'checkpoint': str(path), 'prefix': 'backbone.'}
    backbone = DETECTORS.build(
        {**BACKBONE, 'conv_cfg': conv_cfg(compensator), 'init_cfg': init_cfg}
    )
    backbone.init_weights()
    return backbone


def same_but_for_the_branches(one, other):
    mine, theirs = one.state_dict(), other.state_dict()
    shared = [key for key in mine if not key.endswith('aux_weight')]
    assert len(shared) == len([key for key in theirs if not key.endswith('aux_weight')])
    return all(torch.equal(mine[key], theirs[key]) for key in shared)


def test_auxiliary_weights_come_along(trained):
    classifier, path = trained({'eta': 0.1})
    detector = backbone_of_a_detector(path, {'eta': 0.1})
    assert same_but_for_the_branches(detector, classifier)
    detector(torch.randn(1, 3, 64, 64))  # a copy start would be taken here
    for (_, mine), (_, theirs) in zip(
        compensated_layers(detector), compensated_layers(classifier), strict=True
    ):
        assert torch.equal(mine.aux_weight, theirs.aux_weight)
        assert not torch.equal(mine.aux_weight, mine.weight)


def test_a_detector_without_branches_drops_them(trained):
    classifier, path = trained({'eta': 0.1})
    detector = backbone_of_a_detector(path, None)
    assert same_but_for_the_branches(detector, classifier)


def test_branches_that_the_classifier_did_not_have_start_from_its_weights(trained):
    classifier, path = trained(None)
    detector = backbone_of_a_detector(path, {'eta': 0.1})
    assert same_but_for_the_branches(detector, classifier)
    detector(torch.randn(1, 3, 64, 64))
    for _, layer in compensated_layers(detector):
        assert torch.equal(layer.aux_weight, layer.weight)
