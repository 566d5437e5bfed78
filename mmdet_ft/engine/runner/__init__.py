"""The training loops."""
from mmdet_ft.engine.optimizers.optimizer_step import Update
from mmdet_ft.engine.runner.base import BaseRunner
from mmdet_ft.engine.runner.epoch import EpochBasedRunner
from mmdet_ft.engine.runner.iteration import IterBasedRunner
from mmdet_ft.engine.runner.seeds import seed_of

__all__ = ['BaseRunner', 'EpochBasedRunner', 'IterBasedRunner', 'Update', 'seed_of']
