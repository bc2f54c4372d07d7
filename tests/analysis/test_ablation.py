import json

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from surge_mm.analysis.ablation import Run, find_baseline, plot, read_run, summarize
from surge_mm.utils.errors import LaunchError


def write_log(folder, values, seconds=0.2, metric='accuracy/top1', losses=None):
    """Write a log as MMEngine does: ten lines of training and one of evaluation an epoch."""
    file = folder / '20260101_000000' / 'vis_data' / 'scalars.json'
    file.parent.mkdir(parents=True)
    lines, step = [], 0
    for epoch, value in enumerate(values, start=1):
        for _ in range(10):
            step += 1
            loss = losses[step - 1] if losses else 1 / step
            lines.append(
                {
                    'loss': loss,
                    'time': seconds + 0.05,
                    'data_time': 0.05,
                    'epoch': epoch,
                    'step': step,
                }
            )
        lines.append({metric: value, 'step': epoch})
    file.write_text('\n'.join(map(json.dumps, lines)) + '\n')
    return folder


def test_a_run_is_read_from_its_log(tmp_path):
    losses = [5.0] * 27 + [1.0, 2.0, 3.0]
    metric, run = read_run(write_log(tmp_path, [40.0, 50.0, 45.0], 0.3, losses=losses))
    assert metric == 'accuracy/top1'
    assert run.steps == [1, 2, 3]
    assert run.values == [40.0, 50.0, 45.0]
    assert run.loss == pytest.approx(2.0)
    assert run.seconds == pytest.approx(0.3)


def test_a_metric_that_was_not_logged_is_refused_with_those_that_were(tmp_path):
    write_log(tmp_path, [1.0], metric='single-label/precision')
    with pytest.raises(ValueError, match='no metric .* it has single-label/precision, step'):
        read_run(tmp_path)
    metric, _ = read_run(tmp_path, 'single-label/precision')
    assert metric == 'single-label/precision'


def test_metrics_of_glue_are_found(tmp_path):
    metric, run = read_run(write_log(tmp_path, [61.25, 62.5], metric='glue/matthews'))
    assert (metric, run.values) == ('glue/matthews', [61.25, 62.5])


def test_the_baseline_is_ste_unless_another_variant_is_named():
    assert find_baseline(None, ['surge', 'ste']) == 'ste'
    assert find_baseline(None, ['surge_resnet20', 'ste_resnet20']) == 'ste_resnet20'
    assert find_baseline(None, ['surge', 'fp']) == 'surge'
    assert find_baseline('fp', ['surge', 'fp']) == 'fp'
    assert find_baseline('STE', ['surge', 'ste']) == 'ste'
    assert find_baseline('Fp', ['fp', 'Fp']) == 'Fp'
    with pytest.raises(LaunchError, match="must be one of surge, fp, got 'recu'"):
        find_baseline('recu', ['surge', 'fp'])


def test_rows_have_mean_sample_deviation_and_time_against_the_same_seed(runs):
    ste, surge, alone = summarize(runs, 'accuracy/top1', 'ste')
    assert (ste.mean, ste.relative_time) == (42.0, 1.0)
    assert ste.std == pytest.approx(np.std([40, 44], ddof=1))
    assert surge.relative_time == pytest.approx((0.3 / 0.2 + 0.8 / 0.4) / 2)
    assert np.isnan(alone.std) and np.isnan(alone.relative_time)


def test_differences_to_the_baseline_are_paired_by_seed():
    tops = {'ste': [40.0, 44.0, 42.0, 41.0], 'surge': [43.0, 45.0, 44.5, 40.5]}
    many = {
        name: {seed: Run([1], [top], 0.5, 1.0) for seed, top in enumerate(values)}
        for name, values in tops.items()
    }
    many['surge'][9] = Run([1], [99.0], 0.5, 1.0)  # without a run of the baseline
    ste, surge = summarize(many, 'accuracy/top1', 'ste')
    paired = stats.ttest_rel(tops['surge'], tops['ste']).confidence_interval(0.95)
    assert surge.difference == pytest.approx(1.5)
    assert surge.difference_interval == pytest.approx((paired.low, paired.high))
    assert (
        surge.p == 4 / 16
    )  # differences 3, 1, 2.5, -0.5: the mean is as far from 0 with 0.5 as well
    own = stats.t.interval(0.95, 3, np.mean(tops['ste']), stats.sem(tops['ste']))
    assert ste.interval == pytest.approx(own)
    assert np.isnan([ste.difference, *ste.difference_interval, ste.p]).all()


def test_the_picture_has_a_curve_for_each_variant(runs, tmp_path):
    picture = plot(runs, 'accuracy/top1', tmp_path / 'new' / 'curves.png')
    pixels = np.asarray(Image.open(picture).convert('RGB')).reshape(-1, 3)
    for colour in ((31, 119, 180), (255, 127, 14), (44, 160, 44)):  # the first three of tab10
        assert (np.abs(pixels.astype(int) - colour).max(1) < 3).sum() > 50


def test_a_single_evaluation_is_a_point(tmp_path):
    one = {'ste': {0: Run([1], [40.0], 0.5, 0.2)}}
    pixels = np.asarray(Image.open(plot(one, 'accuracy/top1', tmp_path / 'a.png')).convert('RGB'))
    axes = pixels[150:500, 200:]  # below the legend
    assert (np.abs(axes.astype(int) - (31, 119, 180)).max(-1) < 3).sum() > 20


def test_a_detector_that_finds_nothing_has_an_average_precision_of_0(tmp_path):
    key = 'coco/bbox_mAP'
    for name, values in {'fell': [0.1, 0.45, None], 'never': [None, None], 'well': [0.2]}.items():
        folder = write_log(tmp_path / name, values, metric=key)
        (file,) = folder.glob('*/vis_data/scalars.json')
        file.write_text(file.read_text().replace(f'"{key}": null', '"time": 0.1'))
    assert read_run(tmp_path / 'fell')[1].values == [0.1, 0.45, 0.0]
    assert read_run(tmp_path / 'never', key)[1].values == [0.0, 0.0]
    assert read_run(tmp_path / 'well')[1].values == [0.2]
    with pytest.raises(ValueError, match='no metric'):
        read_run(tmp_path / 'never')


def test_evaluations_are_of_epochs_or_of_iterations(tmp_path):
    write_log(tmp_path / 'epochs', [1.0, 2.0])
    write_log(tmp_path / 'iterations', [1.0, 2.0])
    (file,) = (tmp_path / 'iterations').glob('*/vis_data/scalars.json')
    file.write_text(file.read_text().replace('"epoch": 2', '"epoch": 1'))
    assert read_run(tmp_path / 'epochs')[1].by_epoch
    assert not read_run(tmp_path / 'iterations')[1].by_epoch
