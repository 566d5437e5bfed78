"""Hooks of a run; `Hook` is the base class for custom ones."""
from mmdet_ft.engine.hooks.checkpoint import CheckpointHook
from mmdet_ft.engine.hooks.early_stop import EarlyStopHook
from mmdet_ft.engine.hooks.ema import EMAHook, ExpMomentumEMAHook, LinearMomentumEMAHook
from mmdet_ft.engine.hooks.epoch_info import SetEpochInfoHook
from mmdet_ft.engine.hooks.evaluation import DistEvalHook, EvalHook
from mmdet_ft.engine.hooks.experiment_loggers import (ClearMLLoggerHook, DvcliveLoggerHook,
                                                      ExperimentLoggerHook, MlflowLoggerHook,
                                                      NeptuneLoggerHook, PaviLoggerHook,
                                                      SegmindLoggerHook)
from mmdet_ft.engine.hooks.logger import LoggerHook, TensorboardLoggerHook, TextLoggerHook
from mmdet_ft.engine.hooks.mixing import YOLOXModeSwitchHook
from mmdet_ft.engine.hooks.monitoring import (CheckInvalidLossHook, DistSamplerSeedHook,
                                              IterTimerHook, NumClassCheckHook, ProgressBarHook)
from mmdet_ft.engine.hooks.precise_bn import PreciseBNHook
from mmdet_ft.engine.hooks.sync_norm import SyncNormHook
from mmdet_ft.engine.hooks.wandb_hooks import MMClsWandbHook, MMDetWandbHook, WandbLoggerHook
from mmdet_ft.engine.runner.hook import Hook, Priority, get_priority, master_only
from mmdet_ft.registry import HOOKS

__all__ = [
    'CheckInvalidLossHook', 'CheckpointHook', 'ClearMLLoggerHook', 'DistEvalHook',
    'DistSamplerSeedHook', 'DvcliveLoggerHook', 'EMAHook', 'EarlyStopHook', 'EvalHook',
    'ExpMomentumEMAHook', 'ExperimentLoggerHook', 'HOOKS', 'Hook', 'IterTimerHook',
    'LinearMomentumEMAHook', 'LoggerHook', 'MMClsWandbHook', 'MMDetWandbHook', 'MlflowLoggerHook',
    'NeptuneLoggerHook', 'NumClassCheckHook', 'PaviLoggerHook', 'PreciseBNHook', 'Priority',
    'ProgressBarHook', 'SegmindLoggerHook', 'SetEpochInfoHook', 'SyncNormHook',
    'TensorboardLoggerHook', 'TextLoggerHook', 'WandbLoggerHook', 'YOLOXModeSwitchHook',
    'get_priority', 'master_only'
]
