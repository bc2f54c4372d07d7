_base_ = 'mmpretrain::_base_/default_runtime.py'

custom_imports = dict(imports=['surge_mm'], allow_failed_imports=False)
default_hooks = dict(
    checkpoint=dict(
        type='surge_mm.SafeCheckpointHook', interval=10, max_keep_ckpts=2, save_best='auto'
    ),
    exact_resume=dict(type='surge_mm.ExactResumeHook'),
    guard=dict(type='surge_mm.NonFiniteGuardHook'),
)
randomness = dict(seed=0)
