"""Hook that passes the epoch to the model."""
from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.runner.hook import Hook
from mmdet_ft.engine.runner.protocol import Runner
from mmdet_ft.registry import HOOKS


@HOOKS.register_module()
class SetEpochInfoHook(Hook):
    """Calls the model's `set_epoch(epoch)` before each training epoch, from 0; TOOD needs it."""

    def before_train_epoch(self, runner: Runner) -> None:
        model = getattr(runner.model, 'module', runner.model)
        set_epoch = getattr(model, 'set_epoch', None)
        if not callable(set_epoch):
            raise UserError(f'SetEpochInfoHook: {type(model).__name__} has no set_epoch(epoch); '
                            'remove the hook from custom_hooks')
        set_epoch(runner.epoch)
