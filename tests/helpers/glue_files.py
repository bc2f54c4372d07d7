"""Small files of GLUE's tasks, and a vocabulary for them."""

WORDS = ['a', 'the', 'film', 'is', 'good', 'bad', 'great', 'dull', 'not', 'very', 'plot', 'it']
TOKENS = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', *WORDS, '##s', '##ly', ',', '"', "'"]


def write_vocabulary(folder):
    path = folder / 'vocab.txt'
    path.write_text('\n'.join(TOKENS) + '\n', encoding='utf-8')
    return path


def write(folder, name, lines):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(lines) + '\n', encoding='utf-8')
    return path


def write_glue(folder):
    """Write the files of all eight tasks, with the columns of GLUE."""
    write(folder, 'CoLA/train.tsv', ['gj04\t1\t\tthe film is good', 'gj04\t0\t*\tfilm the good is'])
    write(folder, 'SST-2/train.tsv', ['sentence\tlabel', 'a good film \t1', 'dull plot \t0'])
    write(folder, 'SST-2/test.tsv', ['index\tsentence', '0\ta good film'])
    write(
        folder,
        'MRPC/dev.tsv',
        ['Quality\t#1 ID\t#2 ID\t#1 String\t#2 String', '1\t11\t12\tthe film\t"the" film'],
    )
    write(
        folder,
        'STS-B/train.tsv',
        [
            'index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore',
            '0\tmain\tMSR\t2012\t1\tnone\tnone\ta film\tthe film\t4.250',
        ],
    )
    write(
        folder,
        'QQP/train.tsv',
        [
            'id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate',
            '1\t3\t4\tis it good\tis it great\t1',
            '2\t5\t6\tis it',
            '3\t7\t8\tis it bad\t\t0',
            '4\t9\t9\tis it bad\tis it dull\t0',
        ],
    )
    header = 'index\tpromptID\tpairID\tgenre\ts1b\ts2b\ts1p\ts2p\tsentence1\tsentence2\tlabel1'
    for split, label in (('train', 'neutral'), ('dev_mismatched', 'contradiction')):
        row = f'0\t1\t1n\tfiction\tb\tb\tp\tp\tthe film\tthe plot\t{label}\t{label}'
        write(folder, f'MNLI/{split}.tsv', [f'{header}\tgold_label', row])
    write(
        folder,
        'QNLI/train.tsv',
        ['index\tquestion\tsentence\tlabel', '0\tis it good\tit is good\tentailment'],
    )
    write(
        folder,
        'RTE/train.tsv',
        ['index\tsentence1\tsentence2\tlabel', '0\tthe film\tthe plot\tnot_entailment'],
    )
    return folder


def write_sst2(folder, rows=64, split='train'):
    """Write sentences of SST-2 that are positive if they have more positive words than negative ones.

    They differ in length, and each split has sentences of its own.
    """
    lines = ['sentence\tlabel']
    start = 0 if split == 'train' else 1000
    for number in range(start, start + rows):
        good = number % 2
        filler = [WORDS[(number * 7 + i) % 4] for i in range(number % 5 + 1)]
        word = ('bad', 'good') if number % 3 else ('dull', 'great')
        lines.append(f'{" ".join([*filler, word[good]])} \t{good}')
    return write(folder, f'SST-2/{split}.tsv', lines)
