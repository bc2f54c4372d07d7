"""Let a linear warm-up of MMEngine end in trainings of few batches."""

from typing import Any


def lengthen_short_warm_ups(schedulers: Any) -> None:
    """Give each ``LinearLR`` with ``convert_to_iter_based`` at least two steps.

    MMEngine converts ``end=0.1`` epochs to ``int(0.1 * batches)`` steps. With less than 10 batches, these are 0, an
    error. With less than 20, it is one step: the schedule sets ``start_factor`` in it and never reaches ``end_factor``,
    so that the whole training has a thousandth of the learning rate.

    Args:
        schedulers (ModuleType): ``mmengine.optim.scheduler.param_scheduler``.
    """
    build = schedulers.LinearParamScheduler.build_iter_from_epoch.__func__

    def build_of_two_steps(
        cls: Any,
        *args: Any,
        begin: float = 0,
        end: float = schedulers.INF,
        epoch_length: int,
        **kwargs: Any,
    ) -> Any:
        second = (int(begin * epoch_length) + 2.5) / epoch_length  # MMEngine rounds down
        return build(
            cls, *args, begin=begin, end=max(end, second), epoch_length=epoch_length, **kwargs
        )

    schedulers.LinearParamScheduler.build_iter_from_epoch = classmethod(build_of_two_steps)
