"""Checkpoints that match a model in part are not loaded."""

import pytest
import torch
from helpers import hostile_checkpoints as hostile
from helpers.hostile_runs import Classifier, copies
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import load_checkpoint
from torch import nn

from surge_mm import SurgeConv2d
from surge_mm.checkpoint.checked import read_checked
from surge_mm.checkpoint.matching import (
    describe_tensor,
    find_mismatches,
    named_tensors,
    require_whole_parts,
)
from surge_mm.utils.errors import LaunchError, UsageError

FIRST = 'backbone.layer1.0.conv1.weight'


def test_find_mismatches_compares_shapes_and_names():
    expected = {'a': torch.ones(2), 'b': torch.ones(3)}
    theirs = {'x.a': torch.ones(4, dtype=torch.float64), 'x.c': torch.ones(1), 'd': torch.ones(1)}
    assert find_mismatches(expected, theirs) == []  # without the prefix they have no name in common
    shape = "'x.a' is (4,) in the checkpoint and (2,) in the model"
    assert find_mismatches(expected, theirs, prefix='x.') == [shape]
    assert find_mismatches(expected, theirs, prefix='x.', required='b', unexpected='c') == [
        shape,
        "'x.b' is missing in the checkpoint and (3,) in the model",
        "'x.c' is (1,) in the checkpoint and missing in the model",
    ]


def test_dtypes_are_compared_on_demand():
    expected, theirs = {'a': torch.ones(2)}, {'a': torch.ones(2, dtype=torch.float64)}
    assert find_mismatches(expected, theirs) == []
    assert find_mismatches(expected, theirs, compare_dtypes=True) == [
        "'a' is (2,) of float64 in the checkpoint and (2,) of float32 in the model"
    ]


def test_values_of_other_kinds_are_described():
    assert describe_tensor(None) == 'missing'
    assert describe_tensor([1]) == 'of type list'
    assert describe_tensor(torch.ones(2).to_sparse()) == '(2,), not dense'
    assert describe_tensor(torch.ones(2, device='meta')) == '(2,), without data'


def test_named_tensors_contain_shared_and_unsaved_ones():
    conv = SurgeConv2d(2, 3, 3, compensator={'eta': 0.1})
    assert 'aux_weight' in named_tensors(conv)
    names = named_tensors(nn.Sequential(conv, conv))
    assert {'0.weight', '1.weight'} <= names.keys()


@pytest.fixture
def model():
    return Classifier()


@pytest.mark.parametrize('fault', hostile.mismatched_weights(Classifier().state_dict(), FIRST))
def test_weights_that_match_in_part_are_not_loaded(tmp_path, model, fault):
    path = tmp_path / 'weights.pth'
    state = hostile.mismatched_weights(Classifier().state_dict(), FIRST)[fault]
    path.write_bytes(hostile.saved({'state_dict': state, 'meta': {}}))
    before = copies(model)
    with pytest.raises(LaunchError, match='weights.pth'):
        read_checked(model, str(path))
    with pytest.raises(UsageError):
        load_checkpoint(model, str(path))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_parts_of_a_binarized_detector_load_whole_checkpoints_only(tmp_path):
    def build(depth, **init_cfg):
        with DefaultScope.overwrite_default_scope('mmdet'):
            return MODELS.build(
                {
                    'type': 'surge_mm.Binarized',
                    'base_type': 'mmdet.ATSS',
                    'backbone': {
                        'type': 'ResNet',
                        'depth': depth,
                        'base_channels': 8,
                        'norm_eval': False,
                        'out_indices': (3,),
                        **init_cfg,
                    },
                    'neck': {'type': 'FPN', 'in_channels': [64], 'out_channels': 8, 'num_outs': 1},
                    'bbox_head': {
                        'type': 'ATSSHead',
                        'num_classes': 2,
                        'in_channels': 8,
                        'feat_channels': 32,
                        'stacked_convs': 1,
                        'anchor_generator': {
                            'type': 'AnchorGenerator',
                            'ratios': [1.0],
                            'octave_base_scale': 8,
                            'scales_per_octave': 1,
                            'strides': [32],
                        },
                    },
                }
            )

    path = str(tmp_path / 'r18.pth')
    torch.save({'state_dict': build(18).backbone.state_dict()}, path)
    pretrained = {'init_cfg': {'type': 'Pretrained', 'checkpoint': path}}
    model = build(18, **pretrained)
    model.init_weights()
    assert torch.equal(model.backbone.conv1.weight, torch.load(path)['state_dict']['conv1.weight'])

    other = build(34, **pretrained)
    before = copies(other.backbone)
    with pytest.raises(
        UsageError,
        match="does not match ResNet in .*'layer1.2.conv1.weight' is missing in the checkpoint",
    ):
        other.backbone.init_weights()
    assert all(torch.equal(v, before[name]) for name, v in other.backbone.state_dict().items())
    with pytest.raises(UsageError, match='no weight of ATSS'):
        load_checkpoint(other, path)


class Added(nn.Module):
    """A block with a layer that others of its kind do not have."""

    def __init__(self, extra: bool) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)
        if extra:
            self.plugin = nn.Sequential(nn.Conv2d(2, 2, 1))


def backbone(blocks, extra):
    return nn.Sequential(nn.Conv2d(2, 2, 1), nn.Sequential(*(Added(extra) for _ in range(blocks))))


def test_layers_added_to_blocks_of_the_checkpoint_keep_their_values_with_a_warning(monkeypatch):
    said = []
    monkeypatch.setattr('surge_mm.checkpoint.matching.warn', said.append)
    model = nn.ModuleDict({'backbone': backbone(2, extra=True)})
    require_whole_parts(model)
    part, theirs = model['backbone'], backbone(2, extra=False).state_dict()
    before = copies(part)
    part.load_state_dict(theirs, strict=False)
    for name, value in part.state_dict().items():
        assert torch.equal(value, theirs.get(name, before[name]))
    (text,) = said
    assert 'does not have 2 of its 7 layers' in text
    assert text.endswith('1.0.plugin.0.weight, 1.1.plugin.0.weight')


@pytest.mark.parametrize(
    ('ours', 'theirs'),
    [((3, False), (2, False)), ((2, False), (2, True)), ((1, True), (0, False))],
    ids=['a block is missing', 'a layer of a block is not used', 'no block'],
)
def test_the_checkpoint_of_another_network_is_refused(ours, theirs):
    model = nn.ModuleDict({'backbone': backbone(*ours)})
    require_whole_parts(model)
    state = backbone(*theirs).state_dict()
    state.pop('1.0.conv2.weight', None)
    with pytest.raises(UsageError, match='the checkpoint does not match Sequential'):
        model['backbone'].load_state_dict(state, strict=False)
