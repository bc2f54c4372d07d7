"""Classify the sentences of SST-2 by a logistic regression on the counts of their words.

python benchmarks/bag_of_words.py --data-root data/glue

It is trained on the split that configs/glue_mini is trained on. The strength of its regularization is chosen on the
split ``holdout``; the dev file is read after that. A model that is not better than this has not used the order of the
words.
"""

from pathlib import Path

from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from surge_mm.datasets.language.holdout import split_rows
from surge_mm.datasets.language.tasks import TASKS
from surge_mm.datasets.language.tsv import Row, read_rows
from surge_mm.launch.cli import Parser, run

STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0)


def main() -> None:
    parser = Parser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--data-root', default='data/glue', help='folder of GLUE')
    parser.add_argument('--holdout-rows', type=int, default=5000, help='default: 5000')
    args = parser.parse_args()
    folder = Path(args.data_root) / TASKS['sst2'].folder
    rows = read_rows(folder / 'train.tsv', TASKS['sst2'])
    parts = split_rows(tuple(row.sentences[0] for row in rows), args.holdout_rows)
    fit, holdout = ([rows[index] for index in part] for part in parts)
    vectorizer = CountVectorizer(token_pattern=r'\S+')
    features = vectorizer.fit_transform(texts(fit))
    results = []
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=1000).fit(features, labels(fit))
        accuracy, loss = evaluate(model, vectorizer, holdout)
        print(f'C={strength}: holdout accuracy {accuracy:.2f}, loss {loss:.4f}')
        results.append((accuracy, model))
    model = max(results, key=lambda result: result[0])[1]
    accuracy, loss = evaluate(model, vectorizer, read_rows(folder / 'dev.tsv', TASKS['sst2']))
    print(f'chosen C={model.C}: dev accuracy {accuracy:.2f}, loss {loss:.4f}')


def texts(rows: list[Row]) -> list[str]:
    return [row.sentences[0] for row in rows]


def labels(rows: list[Row]) -> list[int]:
    return [int(row.label) for row in rows]


def evaluate(
    model: LogisticRegression, vectorizer: CountVectorizer, rows: list[Row]
) -> tuple[float, float]:
    """Return the accuracy in percent and the mean loss.

    Args:
        model (LogisticRegression): The trained model.
        vectorizer (CountVectorizer): Counts the words.
        rows (list[Row]): Sentences with their labels.

    Returns:
        tuple[float, float]: accuracy and loss.
    """
    scores = model.predict_proba(vectorizer.transform(texts(rows)))
    truth = labels(rows)
    return 100 * (scores.argmax(1) == truth).mean(), log_loss(truth, scores, labels=[0, 1])


if __name__ == '__main__':
    run(main)
