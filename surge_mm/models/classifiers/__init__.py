"""Classifiers for MMPretrain."""

from surge_mm.models.classifiers.distilled_classifier import DistilledClassifier

__all__ = ['DistilledClassifier']
