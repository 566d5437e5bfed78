"""The loop that trains."""
from mmdet_ft.engine.runner.base import BaseRunner
from mmdet_ft.engine.runner.epoch import EpochBasedRunner
from mmdet_ft.engine.runner.iteration import IterBasedRunner
from mmdet_ft.engine.seeds import seed_of
from mmdet_ft.engine.update import Update

__all__ = ['BaseRunner', 'EpochBasedRunner', 'IterBasedRunner', 'Update', 'seed_of']
