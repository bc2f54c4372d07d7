"""Networks whose structure suits binary layers."""

from .backbones import ReActNetA, SurgeResNet, SurgeVGGSmall
from .binarized import Binarized, binarize, to_float
from .data_preprocessors import BatchAugmentPreprocessor
from .distilled_classifier import DistilledClassifier

__all__ = [
    'BatchAugmentPreprocessor',
    'Binarized',
    'DistilledClassifier',
    'ReActNetA',
    'SurgeResNet',
    'SurgeVGGSmall',
    'binarize',
    'to_float',
]
