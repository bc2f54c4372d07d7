"""benchmarks/compare_text.py on predictions that are there already, and bag_of_words.py on small files."""

import json
import sys

import bag_of_words
import compare_text
import numpy as np
import pytest
import torch
from helpers.glue_files import write_sst2

from surge_mm.utils.errors import LaunchError

ROWS = 40
LABELS = np.arange(ROWS) % 2


def make_runs(folder, seeds=(0, 1, 2)):
    """Write folders as tools/ablation.py does, with predictions later than the checkpoint; return all scores."""
    scores = {}
    for number, name in enumerate(('ste', 'surge')):
        rng = np.random.default_rng(number)
        scores[name] = rng.dirichlet([1.0, 1.0], size=(len(seeds), ROWS))
        for seed, run in zip(seeds, scores[name], strict=True):
            place = folder / name / f'seed_{seed}'
            (place / 'test').mkdir(parents=True)
            (place / f'{name}.py').write_text('')
            torch.save({'state_dict': {}, 'meta': {}}, place / 'epoch_2.pth')
            (place / 'last_checkpoint').write_text(str(place / 'epoch_2.pth'))
            rows = [[int(label), score.tolist()] for label, score in zip(LABELS, run, strict=True)]
            (place / 'test' / 'holdout.json').write_text(json.dumps(rows))
    return scores


def compare(monkeypatch, folder, *words):
    folders = [str(folder / name) for name in ('ste', 'surge')]
    monkeypatch.setattr(sys, 'argv', ['compare_text.py', *folders, '--split', 'holdout', *words])
    compare_text.main()
    return json.loads((folder / 'comparison_holdout.json').read_text())


def test_accuracy_and_loss_of_each_run_and_their_differences(tmp_path, monkeypatch, capsys):
    scores = make_runs(tmp_path)
    report = compare(monkeypatch, tmp_path, '--resamples', '200')
    for name, runs in scores.items():
        accuracy = [100 * np.mean((run[:, 1] > 0.5) == LABELS) for run in runs]
        loss = [-np.mean(np.log(np.where(LABELS, run[:, 1], run[:, 0]))) for run in runs]
        assert report['metrics'][name]['accuracy'] == pytest.approx(accuracy)
        assert report['metrics'][name]['loss'] == pytest.approx(loss)
    means = {name: np.mean(found['loss']) for name, found in report['metrics'].items()}
    gap = report['differences']['surge']['loss']
    assert gap['mean'] == pytest.approx(means['surge'] - means['ste'])
    assert gap['low'] < gap['mean'] < gap['high']
    assert report['seeds'] == ['seed_0', 'seed_1', 'seed_2']
    assert 'surge' in capsys.readouterr().out


def test_runs_that_cannot_be_compared_are_named(tmp_path, monkeypatch):
    make_runs(tmp_path)
    with pytest.raises(LaunchError, match='--resamples 5 must be at least 100'):
        compare(monkeypatch, tmp_path, '--resamples', '5')
    (tmp_path / 'surge/seed_1/epoch_2.pth').unlink()
    (tmp_path / 'surge/seed_1/last_checkpoint').unlink()
    with pytest.raises(LaunchError, match="seed_1' has no checkpoint"):
        compare(monkeypatch, tmp_path)
    with pytest.raises(LaunchError, match='needs a task with classes'):
        compare_text.rows_of([[[1.0, [2.5]]]])


def test_a_run_that_cannot_be_evaluated_is_named(tmp_path, monkeypatch, capfd):
    make_runs(tmp_path)
    (tmp_path / 'ste/seed_0/test/holdout.json').unlink()
    with pytest.raises(LaunchError, match="ste/seed_0': tools/test.py failed, see above"):
        compare(monkeypatch, tmp_path)
    (tmp_path / 'ste/seed_0/other.py').write_text('')
    with pytest.raises(LaunchError, match="seed_0' must have one config, got"):
        compare(monkeypatch, tmp_path)


def test_runs_of_other_rows_are_not_compared(tmp_path, monkeypatch):
    make_runs(tmp_path)
    place = tmp_path / 'surge/seed_1/test/holdout.json'
    rows = json.loads(place.read_text())
    for others in (rows[1:] + rows[:1], rows[:-2]):
        place.write_text(json.dumps(others))
        with pytest.raises(LaunchError, match="surge/seed_1' has predictions of other rows than '"):
            compare(monkeypatch, tmp_path)


def test_a_bag_of_words_learns_words_and_is_chosen_on_the_holdout(tmp_path, monkeypatch, capsys):
    write_sst2(tmp_path, 64)
    write_sst2(tmp_path, 20, 'dev')
    words = ['--data-root', str(tmp_path), '--holdout-rows', '8']
    monkeypatch.setattr(sys, 'argv', ['bag_of_words.py', *words])
    bag_of_words.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and lines[-1].startswith('chosen C=')
    assert 'dev accuracy 100.00' in lines[-1]  # the label is that of one word
