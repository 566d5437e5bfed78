"""Schedules of learning rates and momenta: `lr_config` and `momentum_config` of a config."""
from mmdet_ft.engine.schedules.momenta import MOMENTUM_POLICIES
from mmdet_ft.engine.schedules.rates import POLICIES
from mmdet_ft.engine.schedules.schedule import (LearningRate, Momentum, Progress,
                                                build_learning_rate, build_momentum)

__all__ = [
    'LearningRate', 'MOMENTUM_POLICIES', 'Momentum', 'POLICIES', 'Progress', 'build_learning_rate',
    'build_momentum'
]
