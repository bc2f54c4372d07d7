"""Training policies as MMEngine hooks."""

from .adaptive_gradient_scaler_hook import AdaptiveGradientScalerHook
from .binarizer_schedule_hook import BinarizerScheduleHook
from .channels_last_hook import ChannelsLastHook
from .exact_resume_hook import ExactResumeHook
from .non_finite_guard_hook import NonFiniteGuardHook
from .safe_checkpoint_hook import SafeCheckpointHook

__all__ = [
    'AdaptiveGradientScalerHook',
    'BinarizerScheduleHook',
    'ChannelsLastHook',
    'ExactResumeHook',
    'NonFiniteGuardHook',
    'SafeCheckpointHook',
]
