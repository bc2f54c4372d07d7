"""Networks whose structure suits binary layers."""

from .backbones import ReActNetA, SurgeResNet, SurgeVGGSmall
from .data_preprocessors import BatchAugmentPreprocessor

__all__ = ['BatchAugmentPreprocessor', 'ReActNetA', 'SurgeResNet', 'SurgeVGGSmall']
