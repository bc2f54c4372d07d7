"""Classify sentences, or pairs of sentences, with a packed text classifier.

python tools/classify.py sentiment.safetensors 'a good film' 'a dull plot'
python tools/classify.py sentiment.safetensors reviews.txt --json found.json

A file has a sentence a line. The two sentences of a pair are separated by a tab. A line is printed for each: the class
and its probability, or the number that a regression predicts, then the sentences, separated by tabs.
"""

import argparse
import json
import sys
from pathlib import Path

import torch

import surge_mm  # noqa: F401  prepares the stack before the hosts are imported
from surge_mm.datasets.language.sentences import Text, check_texts, read_texts
from surge_mm.deploy import load_packed
from surge_mm.deploy.predict.text_predictor import TextPredictor
from surge_mm.launch.cli import Parser, add_allow, check_least, run
from surge_mm.utils.atomic_write import write_atomically
from surge_mm.utils.errors import LaunchError


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('model', help='a packed text classifier, as tools/export.py writes it')
    parser.add_argument('inputs', nargs='+', help='sentences, or text files with a sentence a line')
    parser.add_argument(
        '--json', metavar='FILE', help='also write the results to this file, which ends in .json'
    )
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--overwrite', action='store_true', help='replace the file of --json')
    add_allow(parser)
    args = parser.parse_args()
    check(args)
    texts = read_texts(args.inputs)
    torch.set_num_threads(args.threads)
    predictor = TextPredictor(load_packed(args.model, allow=args.allow))
    check_texts(texts, predictor.num_sentences)
    found = predictor.predict([text.sentences for text in texts])
    for text, one in zip(texts, found, strict=True):
        name = [one['class']] if 'class' in one else []
        print(*name, f'{one["score"]:.4f}', *text.sentences, sep='\t')
    cut = [text.place for text, one in zip(texts, found, strict=True) if one['truncated']]
    if cut:
        length = predictor.model.vocabulary['max_length']
        print(
            f'warning: {len(cut)} of {len(texts)} have more than {length} tokens, and the end was cut off, first: '
            f'{cut[0]}',
            file=sys.stderr,
        )
    if args.json:
        write_json(args, texts, found, predictor)


def check(args: argparse.Namespace) -> None:
    """Check the arguments before the model is loaded.

    Raises:
        LaunchError: if one is out of range, or a file would be replaced.
    """
    check_least(args, 1, 'threads')
    if args.json:
        path = Path(args.json)
        if path.suffix.lower() != '.json' or path.is_dir():
            raise LaunchError(f'--json {args.json!r} must be a file that ends in .json')
        if path.exists() and not args.overwrite:
            raise LaunchError(
                f'{args.json!r} exists already: name another file with --json, or add --overwrite'
            )


def write_json(
    args: argparse.Namespace, texts: list[Text], found: list[dict], predictor: TextPredictor
) -> None:
    """Write the results as JSON.

    Args:
        args (argparse.Namespace): Arguments of the tool.
        texts (list[Text]): The texts.
        found (list[dict]): The prediction for each, by :meth:`TextPredictor.predict`.
        predictor (TextPredictor): The model.
    """
    results = [{**text._asdict(), **one} for text, one in zip(texts, found, strict=True)]
    content = {'model': args.model, 'classes': list(predictor.classes), 'results': results}
    advice = 'free some space and run the same command again'
    write_atomically(args.json, (json.dumps(content, indent=1) + '\n').encode(), advice)


if __name__ == '__main__':
    run(main, 'nothing was written')
