"""Detectors."""

from surge_mm.models.detectors.distilled_detector import DistilledDetector

__all__ = ['DistilledDetector']
