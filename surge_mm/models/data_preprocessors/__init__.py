"""From batches of the data loader to the input of a network."""

from .batch_augment import BatchAugmentPreprocessor

__all__ = ['BatchAugmentPreprocessor']
