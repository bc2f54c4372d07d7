import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmcv.ops import batched_nms, nms, nms_match, soft_nms

SEEDS = st.integers(0, 2**32 - 1)
ONE = np.float32(1)


def random_detections(seed, whole_numbers=False):
    """Up to 40 overlapping boxes and distinct scores."""
    rng = np.random.default_rng(seed)
    n = rng.integers(0, 41)
    corner, size = rng.uniform(0, 30, (n, 2)), rng.uniform(1, 25, (n, 2))
    boxes = np.concatenate([corner, corner + size], axis=1)
    scores = rng.permutation(n) / max(n, 1) + 0.01
    return (boxes.round() if whole_numbers else boxes).astype('f4'), scores.astype('f4')


def plain_iou(a, b, offset):
    offset = np.float32(offset)
    w = max(np.float32(0), min(a[2], b[2]) - max(a[0], b[0]) + offset)
    h = max(np.float32(0), min(a[3], b[3]) - max(a[1], b[1]) + offset)
    areas = [(x[2] - x[0] + offset) * (x[3] - x[1] + offset) for x in (a, b)]
    return w * h / (areas[0] + areas[1] - w * h)


def plain_nms(boxes, scores, threshold, offset):
    kept = []
    for i in np.argsort(-scores):
        if all(plain_iou(boxes[k], boxes[i], offset) <= threshold for k in kept):
            kept.append(int(i))
    return kept


def plain_nms_match(boxes, scores, threshold):
    groups = []
    for i in np.argsort(-scores):
        for group in groups:
            if plain_iou(boxes[group[0]], boxes[i], 0) >= threshold:
                group.append(int(i))
                break
        else:
            groups.append([int(i)])
    return groups


def plain_soft_nms(boxes, scores, threshold, sigma, min_score, method, offset):
    scores, left, taken = dict(enumerate(scores)), set(range(len(scores))), []
    while left:
        best = max(left, key=lambda i: scores[i])
        taken.append((best, scores[best]))
        left.remove(best)
        for i in list(left):
            iou = plain_iou(boxes[best], boxes[i], offset)
            if method == 'gaussian':
                scores[i] *= np.exp(-iou * iou / np.float32(sigma))
            elif iou >= threshold:
                scores[i] *= ONE - iou if method == 'linear' else np.float32(0)
            if scores[i] < min_score:
                left.remove(i)
    return taken


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('iou', [0.3, 0.5, 0.7])
@pytest.mark.parametrize('case', ['nms0', 'nms1', 'nms2'])
def test_nms_keeps_what_compiled_mmcv_keeps(reference, case, iou, offset):
    boxes, scores = reference[f'{case}_boxes'], reference[f'{case}_scores']
    dets, kept = nms(boxes, scores, iou, offset)
    assert torch.equal(kept, reference[f'{case}_keep_iou{iou}_offset{offset}'])
    assert torch.equal(dets, torch.cat([boxes, scores[:, None]], 1)[kept])


@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
@pytest.mark.parametrize('case', ['nms0', 'nms1', 'nms2'])
def test_soft_nms_equals_compiled_mmcv(reference, case, method):
    dets, kept = soft_nms(
        reference[f'{case}_boxes'], reference[f'{case}_scores'], 0.3, 0.5, 1e-3, method
    )
    assert torch.equal(kept, reference[f'{case}_softnms_{method}_keep'])
    assert torch.allclose(dets, reference[f'{case}_softnms_{method}_dets'], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize('case', ['nms0', 'nms1', 'nms2'])
def test_batched_nms_equals_compiled_mmcv(reference, case):
    boxes, scores, ids = (reference[f'{case}_{name}'] for name in ('boxes', 'scores', 'ids'))
    dets, kept = batched_nms(boxes, scores, ids, dict(type='nms', iou_threshold=0.5))
    assert torch.equal(kept, reference[f'{case}_batched_keep'])
    assert torch.equal(dets, reference[f'{case}_batched_dets'])


@pytest.mark.parametrize('offset', [0, 1])
@given(SEEDS, st.sampled_from([0.125, 0.25, 0.5, 0.75]), st.booleans())
def test_nms_keeps_a_box_unless_a_better_kept_one_overlaps_it(offset, seed, threshold, whole):
    boxes, scores = random_detections(seed, whole)
    dets, kept = nms(boxes, scores, threshold, offset)
    assert kept.tolist() == plain_nms(boxes, scores, threshold, offset)
    assert isinstance(dets, np.ndarray)


@given(SEEDS, st.sampled_from([0.125, 0.25, 0.5]))
def test_nms_match_groups_each_box_with_the_best_kept_one_it_reaches(seed, threshold):
    boxes, scores = random_detections(seed, whole_numbers=True)
    dets = torch.from_numpy(np.concatenate([boxes, scores[:, None]], axis=1))
    groups = [group.tolist() for group in nms_match(dets, threshold)]
    assert groups == plain_nms_match(boxes, scores, threshold)


def test_nms_match_suppresses_at_equality_and_nms_does_not():
    boxes, scores = np.array([[0, 0, 2, 2], [0, 0, 2, 1]], 'f4'), np.array([0.9, 0.8], 'f4')
    assert len(nms(boxes, scores, 0.5)[1]) == 2
    assert len(nms_match(np.concatenate([boxes, scores[:, None]], axis=1), 0.5)) == 1


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('method', ['naive', 'linear', 'gaussian'])
@given(SEEDS)
def test_soft_nms_follows_the_formula(method, offset, seed):
    boxes, scores = random_detections(seed)
    dets, kept = soft_nms(boxes, scores, 0.3, 0.4, 0.03, method, offset)
    expected = plain_soft_nms(boxes, scores, 0.3, 0.4, 0.03, method, offset)
    assert kept.tolist() == [i for i, _ in expected]
    np.testing.assert_array_equal(dets[:, :4], boxes[kept])
    np.testing.assert_allclose(dets[:, 4], [score for _, score in expected], rtol=1e-5)


def test_batched_nms_never_suppresses_across_classes():
    boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0]]).repeat(4, 1)
    scores, ids = torch.tensor([0.6, 0.9, 0.8, 0.7]), torch.tensor([0, 1, 0, 1])
    for kind in ('nms', 'soft_nms'):
        cfg = dict(type=kind, iou_threshold=0.5, **({'method': 'naive'} if 'soft' in kind else {}))
        assert batched_nms(boxes, scores, ids, cfg)[1].tolist() == [1, 2]
    assert batched_nms(boxes, scores, ids, dict(iou_threshold=0.5), True)[1].tolist() == [1]


@pytest.mark.parametrize('offset', [0, 1])
def test_no_boxes_give_no_boxes(offset):
    boxes, scores = torch.zeros(0, 4), torch.zeros(0)
    for operator in (nms, soft_nms):
        dets, kept = operator(boxes, scores, 0.5, offset=offset)
        assert dets.shape == (0, 5) and kept.shape == (0,) and kept.dtype == torch.long


def test_inputs_are_unchanged():
    boxes, scores = map(torch.from_numpy, random_detections(5))
    before = boxes.clone(), scores.clone()
    for offset in (0, 1):
        nms(boxes, scores, 0.3, offset)
        soft_nms(boxes, scores, 0.3, offset=offset)
    assert torch.equal(boxes, before[0]) and torch.equal(scores, before[1])
