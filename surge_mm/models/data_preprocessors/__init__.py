"""From batches of the data loader to the input of a network."""

from surge_mm.models.data_preprocessors.batch_augment import BatchAugmentPreprocessor

__all__ = ['BatchAugmentPreprocessor']
