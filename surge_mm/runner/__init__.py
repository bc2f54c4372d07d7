"""MMEngine's runner with hooks of this package, and its optimizer wrapper for mixed precision on a CPU."""

from surge_mm.runner.cpu_amp_optim_wrapper import CPUAmpOptimWrapper
from surge_mm.runner.safe_runner import SafeRunner

__all__ = ['CPUAmpOptimWrapper', 'SafeRunner']
