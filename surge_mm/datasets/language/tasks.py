"""The eight tasks of GLUE: their files, columns, labels and metrics.

Source: Wang et al., GLUE, arXiv 1804.07461. Columns and labels are those of the files of gluebenchmark.com. WNLI is
left out, as in the papers on binary BERT.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """A task of GLUE.

    Attributes:
        folder (str): Folder of the task in the folder of GLUE.
        sentences (tuple[str, ...]): Columns of the one or two sentences.
        label (str): Column of the label.
        classes (tuple[str, ...]): Names of the classes, in the order of the labels. Empty for a regression.
        texts (tuple[str, ...]): Labels as they are written in the file, in the same order.
        metrics (tuple[str, ...]): The official metrics; the first one is that of tables with one number for each task.
        columns (tuple[str, ...]): Columns of files without a header. Empty if the files have one.
        skips (bool): Whether the official files have damaged rows, which are skipped.
        splits (tuple[str, ...]): Names of the official files with labels, without the suffix.
    """

    folder: str
    sentences: tuple[str, ...]
    label: str
    classes: tuple[str, ...]
    texts: tuple[str, ...]
    metrics: tuple[str, ...] = ('accuracy',)
    columns: tuple[str, ...] = ()
    skips: bool = False
    splits: tuple[str, ...] = ('train', 'dev')

    @property
    def num_outputs(self) -> int:
        """Number of outputs of a model of the task: the number of classes, or 1 for a regression."""
        return len(self.classes) or 1


_ENTAILMENT = ('entailment', 'not_entailment')
_INFERENCE = ('entailment', 'neutral', 'contradiction')

TASKS = {
    'cola': Task(
        'CoLA',
        ('sentence',),
        'label',
        ('unacceptable', 'acceptable'),
        ('0', '1'),
        ('matthews',),
        columns=('source', 'label', 'mark', 'sentence'),
    ),
    'sst2': Task('SST-2', ('sentence',), 'label', ('negative', 'positive'), ('0', '1')),
    'mrpc': Task(
        'MRPC',
        ('#1 String', '#2 String'),
        'Quality',
        ('not_equivalent', 'equivalent'),
        ('0', '1'),
        ('accuracy', 'f1'),
    ),
    'stsb': Task('STS-B', ('sentence1', 'sentence2'), 'score', (), (), ('spearman', 'pearson')),
    'qqp': Task(
        'QQP',
        ('question1', 'question2'),
        'is_duplicate',
        ('not_duplicate', 'duplicate'),
        ('0', '1'),
        ('accuracy', 'f1'),
        skips=True,
    ),
    'mnli': Task(
        'MNLI',
        ('sentence1', 'sentence2'),
        'gold_label',
        _INFERENCE,
        _INFERENCE,
        splits=('train', 'dev_matched', 'dev_mismatched'),
    ),
    'qnli': Task('QNLI', ('question', 'sentence'), 'label', _ENTAILMENT, _ENTAILMENT),
    'rte': Task('RTE', ('sentence1', 'sentence2'), 'label', _ENTAILMENT, _ENTAILMENT),
}
"""The tasks by the name that configs have."""
