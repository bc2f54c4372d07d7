"""Average precision of a detector, with a weight for each image, as a bootstrap over images needs it."""

from collections import defaultdict
from typing import NamedTuple

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import surge_mm  # noqa: F401  must be imported before the hosts

from mmdet.evaluation.functional.mean_ap import tpfp_default  # isort: skip

RECALLS = np.linspace(0, 1, 101)


class Matches(NamedTuple):
    """The detections of one class in all images, with the best score first.

    Attributes:
        image (np.ndarray): Index of the image of each detection, shape (D,).
        positive (np.ndarray): Whether a detection is a true positive, at each of T IoU thresholds, shape (T, D).
        counted (np.ndarray): False for a detection of an ignored object, shape (T, D).
        objects (np.ndarray): Number of objects in each image, shape (N,).
    """

    image: np.ndarray
    positive: np.ndarray
    counted: np.ndarray
    objects: np.ndarray


def coco_matches(truth: COCO, found: COCO) -> list[Matches]:
    """Match detections with objects at ten IoU thresholds, by pycocotools."""
    evaluation = COCOeval(truth, found, 'bbox')
    evaluation.evaluate()
    images, limit = len(evaluation.params.imgIds), evaluation.params.maxDets[-1]
    areas = len(evaluation.params.areaRng)  # the first one is 'all'
    matches = []
    for category in range(len(evaluation.params.catIds)):
        start = category * areas * images
        by_image = {
            i: e for i, e in enumerate(evaluation.evalImgs[start : start + images]) if e is not None
        }
        if not by_image:  # neither objects nor detections of this class
            continue
        objects = np.zeros(images)
        for i, e in by_image.items():
            objects[i] = np.count_nonzero(np.asarray(e['gtIgnore']) == 0)
        scores = np.concatenate([e['dtScores'][:limit] for e in by_image.values()])
        order = np.argsort(-scores, kind='mergesort')
        image = np.concatenate(
            [np.full(len(e['dtScores'][:limit]), i) for i, e in by_image.items()]
        )
        matched = np.concatenate([e['dtMatches'][:, :limit] for e in by_image.values()], 1) > 0
        ignored = np.concatenate([e['dtIgnore'][:, :limit] for e in by_image.values()], 1) > 0
        matches.append(Matches(image[order], matched[:, order], ~ignored[:, order], objects))
    return matches


def voc_matches(truth: COCO, found: COCO) -> list[Matches]:
    """Match detections with objects at IoU 0.5, by MMDetection's function, as its ``VOCMetric`` does."""

    def by_image(coco: COCO) -> dict[tuple[int, int], list[list[float]]]:
        boxes = defaultdict(list)
        for ann in coco.dataset['annotations']:
            x, y, width, height = ann['bbox']
            box = [x, y, x + width, y + height, ann.get('score', 0.0)]
            key = ann['image_id'], ann['category_id'], bool(ann.get('iscrowd', 0))
            boxes[key].append(box)
        return boxes

    objects_of, detections_of = by_image(truth), by_image(found)
    images, matches = sorted(truth.imgs), []
    for category in sorted(truth.cats):
        image, score, positive, counted = [], [], [], []
        objects = np.zeros(len(images))
        for i, image_id in enumerate(images):
            boxes, ignored, dets = (
                np.array(group.get((image_id, category, crowd), []), np.float32).reshape(-1, 5)
                for group, crowd in (
                    (objects_of, False),
                    (objects_of, True),
                    (detections_of, False),
                )
            )
            tp, fp = tpfp_default(
                dets, boxes[:, :4], ignored[:, :4], 0.5, use_legacy_coordinate=True
            )
            objects[i] = len(boxes)
            image += [i] * len(dets)
            score += list(dets[:, 4])
            positive += list(tp[0] > 0)
            counted += list(tp[0] + fp[0] > 0)
        order = np.argsort(-np.array(score), kind='mergesort')
        matches.append(
            Matches(
                np.array(image, int)[order],
                np.array(positive, bool)[None, order],
                np.array(counted, bool)[None, order],
                objects,
            )
        )
    return matches


FUNCTIONS = {'voc': voc_matches, 'coco': coco_matches}


def mean_ap(classes: list[Matches], metric: str, weights: np.ndarray | None = None) -> float:
    """Return the mean over classes with objects and over IoU thresholds of the average precision.

    VOC takes the area under the curve of precision over recall, COCO the mean of the precisions at 101 recalls.
    Precisions are made monotonous from the right in both.

    Args:
        classes (list[Matches]): The matches of each class.
        metric (str): ``'voc'`` or ``'coco'``.
        weights (np.ndarray, optional): How often each image is counted, shape (N,). Defaults to once.
    """
    aps = []
    for match in classes:
        weight = np.ones(len(match.objects)) if weights is None else weights
        number = match.objects @ weight
        if not number:
            continue
        of_detection = weight[match.image]
        true = np.cumsum((match.positive & match.counted) * of_detection, axis=1)
        every = np.cumsum(match.counted * of_detection, axis=1)
        recall = true / number
        precision = true / np.maximum(every, np.finfo(float).eps)
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        for r, p in zip(recall, precision, strict=True):
            if metric == 'voc':
                aps.append(np.sum(np.diff(r, prepend=0.0) * p))
            else:
                at = np.searchsorted(r, RECALLS, side='left')
                aps.append(np.append(p, 0.0)[at].mean())
    return float(np.mean(aps)) if aps else float('nan')
