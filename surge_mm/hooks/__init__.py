"""Hooks for MMEngine's runner."""

from surge_mm.hooks.adaptive_gradient_scaler_hook import AdaptiveGradientScalerHook
from surge_mm.hooks.binarizer_schedule_hook import BinarizerScheduleHook
from surge_mm.hooks.channels_last_hook import ChannelsLastHook
from surge_mm.hooks.exact_resume_hook import ExactResumeHook
from surge_mm.hooks.gradient_report_hook import GradientReportHook
from surge_mm.hooks.non_finite_guard_hook import NonFiniteGuardHook
from surge_mm.hooks.safe_checkpoint_hook import SafeCheckpointHook
from surge_mm.hooks.surrogate_gradient_hook import SurrogateGradientHook

__all__ = [
    'AdaptiveGradientScalerHook',
    'BinarizerScheduleHook',
    'ChannelsLastHook',
    'ExactResumeHook',
    'GradientReportHook',
    'NonFiniteGuardHook',
    'SafeCheckpointHook',
    'SurrogateGradientHook',
]
