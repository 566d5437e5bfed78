"""What watches a run; `Hook` is the base for your own."""
from mmdet_ft.engine.hooks.checkpoint import CheckpointHook
from mmdet_ft.engine.hooks.checks import (CheckInvalidLossHook, DistSamplerSeedHook, IterTimerHook,
                                          NumClassCheckHook, ProgressBarHook)
from mmdet_ft.engine.hooks.evaluation import DistEvalHook, EvalHook
from mmdet_ft.engine.hooks.hook import Hook, Priority, get_priority, master_only
from mmdet_ft.engine.hooks.logger import LoggerHook, TensorboardLoggerHook, TextLoggerHook
from mmdet_ft.registry import HOOKS

__all__ = [
    'HOOKS', 'Hook', 'Priority', 'get_priority', 'master_only', 'CheckpointHook', 'EvalHook',
    'DistEvalHook', 'LoggerHook', 'TextLoggerHook', 'TensorboardLoggerHook', 'NumClassCheckHook',
    'CheckInvalidLossHook', 'DistSamplerSeedHook', 'IterTimerHook', 'ProgressBarHook'
]
