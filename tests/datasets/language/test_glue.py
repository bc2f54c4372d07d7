"""GlueDataset on small files with the columns of GLUE."""

import sys
from unittest import mock

import pytest
from helpers.glue_files import TOKENS, write
from mmengine.registry import DATASETS
from mmengine.runner import Runner

from surge_mm import GlueDataset
from surge_mm.utils.errors import DatasetError, UsageError

pytest.importorskip('tokenizers')
CLS, SEP = TOKENS.index('[CLS]'), TOKENS.index('[SEP]')


def ids(text):
    return [TOKENS.index(token) for token in text.split()]


def build(root, vocab, **settings):
    return GlueDataset(data_root=str(root), vocab=vocab, **settings)


@pytest.mark.parametrize(
    'task, split, sentences, label',
    [
        ('cola', 'train', ['the film is good'], 1),
        ('sst2', 'train', ['a good film'], 1),
        ('mrpc', 'dev', ['the film', '" the " film'], 1),
        ('stsb', 'train', ['a film', 'the film'], 4.25),
        ('qqp', 'train', ['is it good', 'is it great'], 1),
        ('mnli', 'train', ['the film', 'the plot'], 1),
        ('mnli', 'dev_mismatched', ['the film', 'the plot'], 2),
        ('qnli', 'train', ['is it good', 'it is good'], 0),
        ('rte', 'train', ['the film', 'the plot'], 1),
    ],
)
def test_the_first_row_of_each_task(root, vocab, task, split, sentences, label):
    dataset = build(root, vocab, task=task, split=split)
    item = dataset[0]
    tokens, types = [CLS], [0]
    for number, sentence in enumerate(sentences):
        tokens += [*ids(sentence), SEP]
        types += [number] * (len(ids(sentence)) + 1)
    types[0] = 0
    assert item['inputs']['input_ids'].tolist() == tokens
    assert item['inputs']['token_type_ids'].tolist() == types
    sample = item['data_samples']
    assert (sample.gt_score if task == 'stsb' else sample.gt_label).item() == label
    assert dataset.metainfo['task'] == task
    assert len(dataset.metainfo['classes']) == {'stsb': 0, 'mnli': 3}.get(task, 2)


def test_words_are_split_into_the_longest_pieces_of_the_vocabulary(root, vocab):
    write(root, 'SST-2/dev.tsv', ['sentence\tlabel', 'Films, GOODLY xyz\t0'])
    item = build(root, vocab, task='sst2', split='dev')[0]
    expected = [CLS, *ids('film ##s , good ##ly [UNK]'), SEP]
    assert item['inputs']['input_ids'].tolist() == expected
    cased = build(root, vocab, task='sst2', split='dev', lowercase=False)[0]
    assert cased['inputs']['input_ids'].tolist() == [CLS, *ids('[UNK] , [UNK] [UNK]'), SEP]


def test_of_a_long_pair_the_longer_sentence_is_cut(root, vocab):
    row = f'0\t{"film " * 9}\tit is\tentailment'
    write(root, 'QNLI/dev.tsv', ['index\tquestion\tsentence\tlabel', row])
    item = build(root, vocab, task='qnli', split='dev', max_length=8)[0]
    assert item['inputs']['input_ids'].tolist() == [
        CLS,
        *ids('film film film'),
        SEP,
        *ids('it is'),
        SEP,
    ]


@pytest.mark.parametrize('newline, mark', [('\r\n', ''), ('\n', '\ufeff'), ('\r\n', '\ufeff')])
def test_line_ends_of_windows_and_a_byte_order_mark_change_nothing(root, vocab, newline, mark):
    plain = build(root, vocab, task='mrpc', split='dev')[0]
    file = root / 'MRPC/dev.tsv'
    file.write_bytes((mark + file.read_text().replace('\n', newline)).encode())
    item = build(root, vocab, task='mrpc', split='dev')[0]
    assert item['inputs']['input_ids'].tolist() == plain['inputs']['input_ids'].tolist()
    assert item['data_samples'].gt_label.item() == plain['data_samples'].gt_label.item()


def test_damaged_rows_of_qqp_are_left_out(root, vocab):
    with mock.patch('surge_mm.datasets.language.tsv.warn') as warn:
        dataset = build(root, vocab, task='qqp')
    (message,) = warn.call_args.args
    assert message.endswith('QQP/train.tsv: 2 damaged rows are left out, lines 3, 4')
    assert [row.sentences for row in dataset.read()] == [
        ('is it good', 'is it great'),
        ('is it bad', 'is it dull'),
    ]
    assert len(dataset) == 2


@pytest.mark.parametrize(
    'task, file, lines, message',
    [
        ('sst2', 'SST-2/train.tsv', ['text\tlabel', 'a\t1'], "line 1: .* no column 'sentence'.*'text'"),
        ('sst2', 'SST-2/train.tsv', ['sentence\tlabel', 'a\t1', 'b'], 'line 3: 1 columns instead of 2'),
        ('sst2', 'SST-2/train.tsv', ['sentence\tlabel', '"a\tb"\t1'], 'line 2: 3 columns instead of 2'),
        ('sst2', 'SST-2/train.tsv', ['sentence\tlabel', 'a\tgood'], r"line 2: label='good'.*\['0', '1'\]"),
        ('sst2', 'SST-2/train.tsv', ['sentence\tlabel', ' \t1'], "line 2: 'sentence' is empty"),
        ('sst2', 'SST-2/train.tsv', ['sentence\tlabel', '', 'a\t1'], 'line 2: 1 columns'),
        ('sst2', 'SST-2/train.tsv', ['sentence\tlabel'], 'has no rows'),
        ('sst2', 'SST-2/train.tsv', [''], 'is empty'),
        ('cola', 'CoLA/train.tsv', ['index\tsentence'], "line 1: 2 columns .*test files have no labels.*split='dev'"),
        ('mnli', 'MNLI/train.tsv', ['sentence1\tsentence2\tgold_label', 'a\tb\t-'], "line 2: gold_label='-'"),
        ('rte', 'RTE/train.tsv', ['sentence1\tsentence2\tlabel', 'a\tb\t1'], "line 2: label='1'"),
        ('stsb', 'STS-B/train.tsv', ['sentence1\tsentence2\tscore', 'a\tb\tgood'], "line 2: score='good' must be a"),
        ('stsb', 'STS-B/train.tsv', ['sentence1\tsentence2\tscore', 'a\tb\tnan'], "line 2: score='nan'"),
    ],
)  # fmt: skip
def test_wrong_files_are_named_with_the_line(root, vocab, task, file, lines, message):
    path = write(root, file, lines)
    with pytest.raises(DatasetError, match=message) as error:
        build(root, vocab, task=task)
    assert str(path) in str(error.value)


def test_a_file_that_is_not_utf_8_is_named_with_the_line(root, vocab):
    (root / 'SST-2/train.tsv').write_bytes(b'sentence\tlabel\na\t1\ncaf\xe9\t1\n')
    with pytest.raises(DatasetError, match='train.tsv, line 3 is not UTF-8'):
        build(root, vocab, task='sst2')


def test_a_test_file_without_labels_is_refused_with_the_way_out(root, vocab):
    with pytest.raises(DatasetError, match="no column 'label'.*test files have no labels.*'dev'"):
        build(root, vocab, task='sst2', split='test')


@pytest.mark.parametrize(
    'change, message',
    [
        ({'task': 'sst-2'}, "task='sst-2'.*did you mean 'sst2'"),
        ({'task': 'cola', 'split': 'holdout'}, "split='holdout' exists for task='sst2' alone"),
        ({'max_length': 4}, 'max_length=4 must be at least 8'),
        ({'pipeline': [1]}, 'GlueDataset has no pipeline'),
        ({'split': 'development'}, 'development.tsv is missing'),
        ({'tasks': 'sst2'}, "unknown argument 'tasks'"),
    ],
)
def test_bad_arguments_are_named(root, vocab, change, message):
    with pytest.raises(ValueError, match=message):
        build(root, vocab, **{'task': 'sst2', **change})


def test_without_tokenizers_the_error_names_the_extra(root, vocab, monkeypatch):
    monkeypatch.setattr('surge_mm.utils.packages.find_spec', lambda name: None)
    monkeypatch.setitem(sys.modules, 'tokenizers', None)
    with pytest.raises(UsageError, match=r'pip install "surge_mm\[language\]"'):
        build(root, vocab, task='sst2')


def test_mmengine_builds_it_by_name_and_loads_batches(root, vocab):
    loader = Runner.build_dataloader(
        {
            'batch_size': 2,
            'num_workers': 0,
            'dataset': {
                'type': 'surge_mm.GlueDataset',
                'task': 'sst2',
                'data_root': str(root),
                'vocab': vocab,
            },
            'sampler': {'type': 'DefaultSampler', 'shuffle': False},
        }
    )
    (batch,) = loader
    assert [len(one) for one in batch['inputs']['input_ids']] == [5, 4]
    assert [sample.gt_label.item() for sample in batch['data_samples']] == [1, 0]
    assert isinstance(loader.dataset, DATASETS.get('surge_mm.GlueDataset'))
