"""Hook that turns off the mixing of images."""
from typing import Sequence

from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.runner.hook import Hook
from mmdet_ft.engine.runner.protocol import Runner
from mmdet_ft.registry import HOOKS


@HOOKS.register_module()
class YOLOXModeSwitchHook(Hook):
    """Removes the transforms that mix images for the last epochs, and adds YOLOX's L1 loss.

    The training set is a MultiImageMixDataset. `use_l1` is set if the model's `bbox_head` has it. A
    run that is resumed in those epochs starts without mixing.

    Args:
        num_last_epochs: number of epochs after the first one without mixing; a run of no more epochs always mixes.
        skip_type_keys: types of the transforms.
    """

    def __init__(self,
                 num_last_epochs: int = 15,
                 skip_type_keys: Sequence[str] = ('Mosaic', 'RandomAffine', 'MixUp')):
        self.num_last_epochs = num_last_epochs
        self.skip_type_keys = skip_type_keys
        self._switched = False

    def before_train_epoch(self, runner: Runner) -> None:
        if runner.max_epochs is None:
            raise UserError('YOLOXModeSwitchHook counts epochs; use it with EpochBasedRunner')
        first = runner.max_epochs - self.num_last_epochs
        if self._switched or not 0 < first <= runner.epoch + 1:
            return
        loader = runner.data_loader
        if not hasattr(loader.dataset, 'update_skip_type_keys'):
            raise UserError(
                f'YOLOXModeSwitchHook needs a training set of type MultiImageMixDataset, '
                f'not {type(loader.dataset).__name__}')
        self._switched = True
        runner.logger.info('No mosaic and mixup aug now!')
        loader.dataset.update_skip_type_keys(self.skip_type_keys)
        if getattr(loader, 'persistent_workers', False):
            loader.restart_workers()  # they hold the earlier dataset
        head = getattr(getattr(runner.model, 'module', runner.model), 'bbox_head', None)
        if hasattr(head, 'use_l1'):
            runner.logger.info('Add additional L1 loss now!')
            head.use_l1 = True
