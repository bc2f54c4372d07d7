"""Networks whose structure suits binary layers."""

from .backbones import ReActNetA, SurgeResNet, SurgeVGGSmall
from .data_preprocessors import BatchAugmentPreprocessor
from .distilled_classifier import DistilledClassifier

__all__ = [
    'BatchAugmentPreprocessor',
    'DistilledClassifier',
    'ReActNetA',
    'SurgeResNet',
    'SurgeVGGSmall',
]
