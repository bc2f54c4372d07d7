"""Networks whose structure suits binary layers."""

from surge_mm.models.backbones import ReActNetA, SurgeResNet, SurgeVGGSmall
from surge_mm.models.binarization.binarize import Binarized, binarize, to_float
from surge_mm.models.classifiers.distilled_classifier import DistilledClassifier
from surge_mm.models.data_preprocessors import BatchAugmentPreprocessor

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
