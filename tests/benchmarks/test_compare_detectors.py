"""benchmarks/compare_detectors.py against MMDetection's and pycocotools' own numbers, on random detections."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from benchmark_cases import average_precision
from mmdet.evaluation import eval_map
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from surge_mm.utils.errors import LaunchError

SCRIPT = Path(__file__).parents[2] / 'benchmarks' / 'compare_detectors.py'
IMAGES, CLASSES = 12, 4


@pytest.fixture(scope='module')
def script():
    spec = importlib.util.spec_from_file_location('compare_detectors', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def random_truth(rng):
    """Return COCO annotations: a fifth of the objects is a crowd, and the last two classes have no object."""
    annotations = []
    for image in range(IMAGES):
        for _ in range(rng.integers(0, 6)):
            x, y, width, height = rng.uniform(0, 80), rng.uniform(0, 80), *rng.uniform(10, 60, 2)
            annotations.append(
                {
                    'id': len(annotations) + 1,
                    'image_id': image + 1,
                    'category_id': int(rng.integers(1, CLASSES - 1)),
                    'bbox': [x, y, width, height],
                    'area': width * height,
                    'iscrowd': int(rng.random() < 0.2),
                }
            )
    return {
        'images': [{'id': n + 1, 'width': 160, 'height': 160} for n in range(IMAGES)],
        'annotations': annotations,
        'categories': [{'id': n + 1, 'name': f'class {n}'} for n in range(CLASSES)],
    }


def random_results(truth, rng, noise):
    """Return detections near the objects, and some anywhere. The last class has none."""
    results = []
    for ann in truth['annotations']:
        for _ in range(rng.integers(0, 3)):
            box = np.array(ann['bbox']) + rng.normal(0, noise, 4)
            results.append({**ann, 'bbox': box.tolist(), 'score': float(rng.random())})
    for _ in range(20):
        box = [*rng.uniform(0, 80, 2), *rng.uniform(10, 60, 2)]
        image, category = int(rng.integers(IMAGES)) + 1, int(rng.integers(1, CLASSES))
        results.append(
            {'image_id': image, 'category_id': category, 'bbox': box, 'score': float(rng.random())}
        )
    return [{k: r[k] for k in ('image_id', 'category_id', 'bbox', 'score')} for r in results]


def as_coco(truth, results, folder):
    (folder / 'gt.json').write_text(json.dumps(truth))
    coco = COCO(str(folder / 'gt.json'))
    return coco, coco.loadRes(results)


def arrays(anns, category):
    boxes = [a['bbox'] for a in anns if a['category_id'] == category]
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return np.hstack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])


def mmdet_map(truth, results):
    """Return the mAP of MMDetection's ``eval_map``, called as its ``VOCMetric`` does."""
    annotations, detections = [], []
    for image in range(1, IMAGES + 1):
        own = [a for a in truth['annotations'] if a['image_id'] == image]
        parts = {}
        for suffix, crowd in (('', 0), ('_ignore', 1)):
            kept = [a for a in own if a['iscrowd'] == crowd]
            parts[f'bboxes{suffix}'] = np.concatenate(
                [arrays(kept, c) for c in range(1, CLASSES + 1)]
            )
            parts[f'labels{suffix}'] = np.sort([a['category_id'] - 1 for a in kept]).astype(int)
        annotations.append(parts)
        found = [r for r in results if r['image_id'] == image]
        by_class = []
        for c in range(1, CLASSES + 1):
            scores = [[r['score']] for r in found if r['category_id'] == c]
            boxes = arrays(found, c)
            by_class.append(np.hstack([boxes, np.array(scores, np.float32).reshape(-1, 1)]))
        detections.append(by_class)
    return eval_map(
        detections,
        annotations,
        iou_thr=0.5,
        dataset=[f'class {n}' for n in range(CLASSES)],
        logger='silent',
        eval_mode='area',
        use_legacy_coordinate=True,
    )[0]


@pytest.mark.parametrize('seed', range(4))
def test_both_metrics_are_those_of_the_hosts(script, tmp_path, seed):
    rng = np.random.default_rng(seed)
    truth = random_truth(rng)
    results = random_results(truth, rng, noise=2)
    coco, found = as_coco(truth, results, tmp_path)
    expected = COCOeval(coco, found, 'bbox')
    expected.evaluate()
    expected.accumulate()
    expected.summarize()
    assert 0.1 < expected.stats[0] < 0.9
    got = average_precision.mean_ap(average_precision.coco_matches(coco, found), 'coco')
    assert got == pytest.approx(expected.stats[0], abs=1e-9)
    got = average_precision.mean_ap(average_precision.voc_matches(coco, found), 'voc')
    assert got == pytest.approx(mmdet_map(truth, results), abs=1e-6)


@pytest.mark.parametrize('metric', ['voc', 'coco'])
def test_a_weight_counts_an_image_that_often(script, tmp_path, metric):
    rng = np.random.default_rng(7)
    truth = random_truth(rng)
    results = random_results(truth, rng, noise=2)
    weights = rng.integers(0, 3, IMAGES)
    repeated = {**truth, 'images': [], 'annotations': []}
    repeated_results = []
    for image, times in enumerate(weights, start=1):
        for _ in range(times):
            number = len(repeated['images']) + 1
            repeated['images'].append({'id': number, 'width': 160, 'height': 160})
            for ann in truth['annotations']:
                if ann['image_id'] == image:
                    new = len(repeated['annotations']) + 1
                    repeated['annotations'].append({**ann, 'image_id': number, 'id': new})
            repeated_results += [
                {**r, 'image_id': number} for r in results if r['image_id'] == image
            ]
    once = average_precision.FUNCTIONS[metric](*as_coco(truth, results, tmp_path))
    often = average_precision.FUNCTIONS[metric](*as_coco(repeated, repeated_results, tmp_path))
    weighted = average_precision.mean_ap(once, metric, weights.astype(float))
    assert weighted == pytest.approx(average_precision.mean_ap(often, metric), abs=1e-9)


def write_runs(folder, truth, noises):
    """Write the files that an evaluation leaves in ``folder/seed_N/test``."""
    for seed, noise in enumerate(noises):
        run = folder / f'seed_{seed}'
        (run / 'test').mkdir(parents=True)
        evaluators = [{'type': 'VOCMetric'}, {'type': 'CocoMetric'}]
        (run / 'config.py').write_text(f'test_evaluator = {evaluators}')
        rng = np.random.default_rng(seed)
        (run / 'test/test.gt.json').write_text(json.dumps(truth))
        (run / 'test/test.bbox.json').write_text(json.dumps(random_results(truth, rng, noise)))


def test_an_interval_excludes_zero_for_a_worse_detector_alone(
    script, tmp_path, monkeypatch, capsys
):
    truth = random_truth(np.random.default_rng(0))
    for name, noise in (('good', 2), ('same', 2), ('worse', 12)):
        write_runs(tmp_path / name, truth, [noise] * 3)
    names = [str(tmp_path / name) for name in ('good', 'same', 'worse')]
    monkeypatch.setattr(sys, 'argv', ['compare_detectors', *names, '--resamples', '200'])
    script.main()
    report = json.loads((tmp_path / 'comparison.json').read_text())
    for metric in ('voc', 'coco'):
        assert report['differences']['same'][metric] == {'mean': 0, 'low': 0, 'high': 0}
        worse = report['differences']['worse'][metric]
        assert worse['low'] < worse['mean'] < worse['high'] < 0
    assert 'seed_0, seed_1, seed_2' in capsys.readouterr().out


def test_variants_of_other_seeds_are_an_error(script, tmp_path):
    truth = random_truth(np.random.default_rng(0))
    write_runs(tmp_path / 'a', truth, [1, 1])
    write_runs(tmp_path / 'b', truth, [1])
    with pytest.raises(LaunchError, match="b' has .'seed_0'., .*a' has"):
        script.common_seeds([tmp_path / 'a', tmp_path / 'b'])
    (tmp_path / 'c').mkdir()
    with pytest.raises(LaunchError, match='has no folder seed_0'):
        script.common_seeds([tmp_path / 'c'])
    with pytest.raises(LaunchError, match='must have different names'):
        script.common_seeds([tmp_path / 'a', tmp_path / 'b' / 'a'])


def test_a_run_with_a_later_checkpoint_is_evaluated_again(script, tmp_path):
    write_runs(tmp_path, random_truth(np.random.default_rng(0)), [1])
    run = tmp_path / 'seed_0'
    results = run / 'test/test.bbox.json'
    torch.save({}, run / 'epoch_1.pth')
    with mock.patch.object(script.subprocess, 'run') as test:
        os.utime(run / 'epoch_1.pth', (0, 0))
        script.detections(run)
        assert not test.called
        os.utime(results, (0, 0))
        os.utime(run / 'epoch_1.pth', (1, 1))
        script.detections(run)
        (words,) = test.call_args[0]
        test.side_effect = script.subprocess.CalledProcessError(1, 'test.py')
        with pytest.raises(LaunchError, match="seed_0': tools/test.py failed"):
            script.detections(run)
    assert words[3] == run / 'epoch_1.pth'
    assert words[-1] == f'test_evaluator.1.outfile_prefix={run}/test/test'


def test_annotations_of_the_metric_are_read(script, tmp_path):
    truth = random_truth(np.random.default_rng(0))
    write_runs(tmp_path, truth, [1])
    run = tmp_path / 'seed_0'
    (run / 'test/test.gt.json').rename(tmp_path / 'test.json')
    metric = {'type': 'mmdet.CocoMetric', 'ann_file': str(tmp_path / 'test.json')}
    for evaluator in (metric, [metric]):
        (run / 'config.py').write_text(f'test_evaluator = {evaluator}')
        coco, _ = script.detections(run)
        assert len(coco.anns) == len(truth['annotations'])


@pytest.mark.parametrize('evaluator', ["dict(type='VOCMetric')", [], None])
def test_a_config_without_a_coco_metric_is_an_error(script, tmp_path, evaluator):
    write_runs(tmp_path, random_truth(np.random.default_rng(0)), [1])
    (tmp_path / 'seed_0/config.py').write_text(f'test_evaluator = {evaluator}')
    with pytest.raises(LaunchError, match='test_evaluator needs a CocoMetric'):
        script.detections(tmp_path / 'seed_0')
    (tmp_path / 'seed_0/other.py').write_text('')
    with pytest.raises(LaunchError, match='must have one config, got'):
        script.detections(tmp_path / 'seed_0')


def test_a_detector_that_finds_nothing_is_named(script, tmp_path):
    write_runs(tmp_path, random_truth(np.random.default_rng(0)), [1])
    (tmp_path / 'seed_0/test/test.bbox.json').write_text('[]')
    with pytest.raises(LaunchError, match="seed_0': the detector finds nothing in the test images"):
        script.detections(tmp_path / 'seed_0')


def test_the_script_starts_in_a_process_of_its_own():
    done = subprocess.run([sys.executable, SCRIPT, '--help'], capture_output=True, text=True)
    assert done.returncode == 0 and '--resamples' in done.stdout, done.stderr[-2000:]
