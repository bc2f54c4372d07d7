"""Data preprocessors."""

from surge_mm.models.data_preprocessors.batch_augment import BatchAugmentPreprocessor
from surge_mm.models.data_preprocessors.text import TextDataPreprocessor

__all__ = ['BatchAugmentPreprocessor', 'TextDataPreprocessor']
