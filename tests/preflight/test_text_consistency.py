import sys
from unittest import mock

import pytest
from helpers.glue_files import TOKENS, write, write_glue, write_sst2, write_vocabulary
from mmengine.config import Config

from surge_mm.preflight.datasets import check_datasets
from surge_mm.utils.errors import DatasetError


@pytest.fixture
def settings(tmp_path):
    return {
        'type': 'surge_mm.GlueDataset',
        'task': 'mnli',
        'data_root': str(write_glue(tmp_path / 'glue')),
        'vocab': str(write_vocabulary(tmp_path)),
        'max_length': 16,
    }


def check(train, val=None, cached=False, metric='mnli', **model):
    backbone = {
        'type': 'surge_mm.SurgeBert',
        'vocab_size': len(TOKENS),
        'max_position_embeddings': 16,
        **model.pop('backbone', {}),
    }
    val = {**train, 'split': 'dev_mismatched', **(val or {})}
    cfg = {
        'default_scope': 'mmpretrain',
        'model': {'type': 'surge_mm.TextClassifier', 'backbone': backbone, **model},
        'train_dataloader': {'dataset': train},
        'val_dataloader': {'dataset': val},
        'val_evaluator': [{'type': 'surge_mm.GlueMetric', 'task': metric}],
    }
    return check_datasets(Config(cfg), cached=cached)


def test_a_config_that_fits_passes(settings):
    lines = check(settings, num_classes=3)
    assert lines == [
        'train_dataloader.dataset: 1 rows, 0 entailment, 1 neutral, 0 contradiction',
        'val_dataloader.dataset: 1 rows, 0 entailment, 0 neutral, 1 contradiction',
    ]


@pytest.mark.parametrize(
    'change, message',
    [
        ({'num_classes': 2},
         r'model.num_classes=2, but train_dataloader.dataset has 3\n.*model.num_classes=3'),
        ({'backbone': {'vocab_size': 9}}, r'model.backbone.vocab_size=9 is less than \d+, which'),
        ({'backbone': {'max_position_embeddings': 15}},
         'model.backbone.max_position_embeddings=15 is less than 16.* a smaller max_length'),
        ({'metric': 'rte'}, r"val_evaluator.0.task='rte', but the data set has task='mnli'"),
    ],
)  # fmt: skip
def test_a_model_or_metric_of_another_task_is_refused(settings, change, message):
    with pytest.raises(DatasetError, match=message):
        check(settings, **change)


def test_wrong_rows_of_all_data_sets_are_named_at_once(settings, tmp_path):
    write(tmp_path / 'glue', 'RTE/train.tsv', ['sentence1\tsentence2\tlabel', 'a\tb\tyes'])
    write(tmp_path / 'glue', 'RTE/dev.tsv', ['sentence1\tsentence2\tlabel', 'a\tb\tno'])
    with pytest.raises(DatasetError) as error:
        check({**settings, 'task': 'rte'}, {'split': 'dev'}, metric='rte', num_classes=2)
    found = str(error.value).splitlines()
    assert [line.split(',')[0].rpartition('/')[2] for line in found] == ['train.tsv', 'dev.tsv']
    stsb = {**settings, 'task': 'stsb'}
    lines = check(stsb, {'split': 'train'}, metric='stsb', num_classes=1)
    assert lines[0].endswith('train_dataloader.dataset: 1 rows, scores from 4.25 to 4.25')


def test_scores_need_one_output(settings):
    stsb = {**settings, 'task': 'stsb'}
    with pytest.raises(DatasetError, match='num_classes=2, but .* has scores, which one output'):
        check(stsb, {'task': 'mnli'}, num_classes=2)


def test_data_sets_with_other_vocabularies_are_refused(settings, tmp_path):
    other = write(tmp_path, 'other.txt', [*TOKENS[:5], *reversed(TOKENS[5:])])
    with pytest.raises(DatasetError, match='val_dataloader.dataset and train_.* differ in vocab'):
        check(settings, {'vocab': str(other)})
    with pytest.raises(DatasetError, match='differ in lowercase'):
        check(settings, {'lowercase': False})


@pytest.mark.parametrize('where', ['teacher', 'init_cfg'])
def test_a_pretrained_folder_of_another_vocabulary_is_refused(settings, tmp_path, where):
    folder = tmp_path / 'pretrained'
    folder.mkdir()
    init = {'type': 'surge_mm.HuggingFaceInit', 'folder': str(folder)}
    model = {
        'teacher': {'teacher': {'config': 't.py', 'checkpoint': str(folder)}},
        'init_cfg': {'backbone': {'init_cfg': [init]}},
    }[where]
    check(settings, num_classes=3, **model)  # a folder without a vocabulary
    write(folder, 'vocab.txt', TOKENS)
    check(settings, num_classes=3, cached=True, **model)
    write(folder, 'vocab.txt', [*TOKENS[:5], *reversed(TOKENS[5:])])  # as many tokens
    argument = {'teacher': 'model.teacher.checkpoint', 'init_cfg': r'init_cfg.0.folder'}[where]
    with pytest.raises(DatasetError, match=f'dataset.vocab=.* differs from .*{argument}='):
        check(settings, num_classes=3, cached=True, **model)


def test_splits_that_do_not_hold_out_the_same_rows_are_warned_of(settings, tmp_path):
    write_sst2(tmp_path / 'glue', rows=20)
    fit = {**settings, 'task': 'sst2', 'split': 'fit', 'holdout_rows': 4}
    lines = check(fit, {'split': 'holdout', 'holdout_rows': 9}, metric='sst2', num_classes=2)
    (warning,) = [line for line in lines if line.startswith('warning:')]
    assert 'val_dataloader.dataset.holdout_rows=9, but train_dataloader' in warning
    assert len(check(fit, {'split': 'holdout'}, metric='sst2', num_classes=2)) == 2


def test_a_changed_vocabulary_is_checked_again(settings, tmp_path):
    check(settings, cached=True)
    write(tmp_path, 'vocab.txt', [*TOKENS, 'film'])
    with pytest.raises(DatasetError, match="train_dataloader.dataset: .*repeats the token 'film'"):
        check(settings, cached=True)


def test_missing_files_are_named_with_the_option_that_sets_them(settings):
    with pytest.raises(DatasetError) as error:
        check({**settings, 'data_root': 'data/none'})
    assert 'train_dataloader.dataset.ann_file does not exist: data/none/MNLI/train.tsv' in str(
        error.value
    )
    assert '--cfg-options train_dataloader.dataset.data_root=FOLDER' in str(error.value)


@pytest.mark.parametrize(
    'indices, counted',
    [
        (5, '5 of 20 rows, 3 negative, 2 positive'),
        (-3, '3 of 20 rows, 1 negative, 2 positive'),
        ([1, 3, 4], '3 of 20 rows, 1 negative, 2 positive'),
    ],
)
def test_the_rows_that_indices_selects_are_counted(settings, tmp_path, indices, counted):
    write_sst2(tmp_path / 'glue', rows=20)  # negative and positive in turn
    train = {**settings, 'task': 'sst2', 'indices': indices}
    lines = check(train, {'split': 'train', 'indices': None}, metric='sst2', num_classes=2)
    assert lines == [
        f'train_dataloader.dataset: {counted}',
        'val_dataloader.dataset: 20 rows, 10 negative, 10 positive',
    ]


@pytest.mark.parametrize('indices, message', [([3, 99], 'There are 20 rows'), (0, 'selects none')])
def test_indices_of_no_row_are_refused(settings, tmp_path, indices, message):
    write_sst2(tmp_path / 'glue', rows=20)
    train = {**settings, 'task': 'sst2', 'indices': indices}
    with pytest.raises(DatasetError, match=rf'train_dataloader.dataset.indices.*{message}'):
        check(train, {'split': 'train', 'indices': None}, metric='sst2', num_classes=2)


@pytest.mark.parametrize(
    'task, classes, known',
    [
        ('mnli', 3, "MNLI are 'train', 'dev_matched', 'dev_mismatched'"),
        ('sst2', 2, "SST-2 are 'train', 'dev', 'fit', 'holdout'"),
    ],
)
def test_an_unknown_split_is_refused_with_those_of_the_task(settings, task, classes, known):
    message = (
        f"val_dataloader.dataset: split='validation': .*validation.tsv is missing.* of {known}"
    )
    with pytest.raises(DatasetError, match=message):
        check({**settings, 'task': task}, {'split': 'validation'}, metric=task, num_classes=classes)


def test_a_missing_tokenizer_is_an_error_before_training(settings):
    with mock.patch.dict(sys.modules, tokenizers=None), pytest.raises(DatasetError) as error:
        check(settings, num_classes=3)
    assert 'train_dataloader.dataset: tokenizers must be installed: pip install' in str(error.value)
