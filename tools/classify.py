"""Classify sentences, or pairs of sentences, with a packed text classifier.

python tools/classify.py sentiment.safetensors 'a good film' 'a dull plot'
python tools/classify.py sentiment.safetensors reviews.txt --json found.json

A file has a sentence a line. The two sentences of a pair are separated by a tab. A line is printed for each: the class
and its probability, or the number that a regression predicts, then the sentences, separated by tabs.
"""

import argparse
import sys

import torch

import surge_mm  # noqa: F401  prepares the stack before the hosts are imported
from surge_mm.datasets.language.sentences import check_texts, read_texts
from surge_mm.deploy import load_packed
from surge_mm.deploy.predict.text_predictor import TextPredictor
from surge_mm.launch.cli import Parser, add_allow, check_least, run
from surge_mm.launch.output_files import add_json, check_output
from surge_mm.utils.atomic_write import write_json


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('model', help='a packed text classifier, as tools/export.py writes it')
    parser.add_argument('inputs', nargs='+', help='sentences, or text files with a sentence a line')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    add_json(parser, 'the results')
    add_allow(parser)
    args = parser.parse_args()
    check_least(args, 1, 'threads')
    check_output(args, 'json', '.json', [args.model, *args.inputs])
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
        results = [{**text._asdict(), **one} for text, one in zip(texts, found, strict=True)]
        classes = list(predictor.classes)
        write_json(args.json, {'model': args.model, 'classes': classes, 'results': results})


if __name__ == '__main__':
    run(main, 'nothing was written')
