"""The Runner with safe checkpoints, exact resumption and the guard, for configs of a host."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS as ROOT_HOOKS
from mmengine.runner import Runner

from surge_mm.hooks import ExactResumeHook, NonFiniteGuardHook, SafeCheckpointHook
from surge_mm.registry import RUNNERS


@RUNNERS.register_module()
class SafeRunner(Runner):
    """MMEngine's ``Runner`` with :class:`SafeCheckpointHook`, :class:`ExactResumeHook` and :class:`NonFiniteGuardHook`.

    The line ``runner_type = 'surge_mm.SafeRunner'`` in a config adds the three hooks to any recipe, whatever hooks it
    has. ``default_hooks.checkpoint`` keeps its settings; without it, a checkpoint is saved after each epoch, as by
    ``Runner``. A hook that the config has already is not added again.
    """

    def register_hooks(self, default_hooks: Any = None, custom_hooks: Any = None) -> None:
        """Register the hooks of the config and the three hooks of the class.

        Args:
            default_hooks (dict, optional): As for ``Runner``.
            custom_hooks (list, optional): As for ``Runner``.
        """
        hooks = dict(default_hooks or {})
        checkpoint = hooks.get('checkpoint', {'type': CheckpointHook, 'interval': 1})
        if isinstance(checkpoint, dict) and _is_plain(checkpoint.get('type')):
            hooks['checkpoint'] = {**checkpoint, 'type': SafeCheckpointHook}
        super().register_hooks(hooks, custom_hooks)
        for kind in (ExactResumeHook, NonFiniteGuardHook):
            if not any(isinstance(hook, kind) for hook in self.hooks):
                self.register_hook(kind())


def _is_plain(kind: Any) -> bool:
    return (ROOT_HOOKS.get(kind) if isinstance(kind, str) else kind) is CheckpointHook
