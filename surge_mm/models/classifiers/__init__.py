"""Classifiers of images, for MMPretrain, and of texts."""

from surge_mm.models.classifiers.distilled_classifier import DistilledClassifier
from surge_mm.models.classifiers.distilled_text_classifier import DistilledTextClassifier
from surge_mm.models.classifiers.text_classifier import TextClassifier

__all__ = ['DistilledClassifier', 'DistilledTextClassifier', 'TextClassifier']
