"""Data preprocessors."""

from surge_mm.models.data_preprocessors.batch_augment import BatchAugmentPreprocessor

__all__ = ['BatchAugmentPreprocessor']
