# The 1x schedule of MMDetection with gradient clipping.
_base_ = 'mmdet::_base_/schedules/schedule_1x.py'

optim_wrapper = dict(clip_grad=dict(max_norm=35))
