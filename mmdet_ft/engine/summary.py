"""The last lines of a run: its best checkpoint, its files, and the commands for the next steps."""
import glob
import inspect
import os
import shlex
from typing import Any, Dict, List, Optional

from mmdet_ft.checkpoints import writing
from mmdet_ft.command_names import command_typed, how_to_run
from mmdet_ft.engine.distributed import dist
from mmdet_ft.engine.hooks.early_stop import EarlyStopHook
from mmdet_ft.engine.hooks.evaluation import EvalHook
from mmdet_ft.engine.runner.base import BaseRunner
from mmdet_ft.engine.settings.keys import ConfigKeys
from mmdet_ft.engine.settings.records import TestSettings


def describe_end(runner: BaseRunner, settings: TestSettings, is_interrupted: bool = False) -> str:
    """Describe the files of a run, best checkpoint first, and the commands to test, predict and resume."""
    messages = runner.meta.get('hook_msgs') or {}
    best = messages.get('best_ckpt')
    if best is not None and not os.path.isfile(best):
        best = None
    latest = _latest(runner, messages)
    lines = []
    if best is not None:
        lines.append(('best', _best(best, messages['best_score'])))
    if latest is not None:
        lines.append(('last', _with_target(latest)))
    lines.append(
        ('logs', os.path.join(_short(runner.work_dir), f'{runner.timestamp}.log') + '[.json]'))
    lines += _commands(runner, settings, best or latest, latest, is_interrupted)
    stale = sorted(glob.glob(os.path.join(glob.escape(runner.work_dir), 'failure_*.pt')))
    if stale and not is_interrupted:
        lines.append((
            'left',
            f'{", ".join(map(_short, stale))}, of an earlier failure; remove what you do not need'))
    return '\n'.join(f'  {title + ":":<9}{text}' for title, text in lines)


def remove_interrupted_state(runner: BaseRunner) -> None:
    """Remove the interrupted state of a finished run; on rank 0."""
    if runner.rank == 0:
        writing.remove_interrupted(runner.work_dir, runner.run_id)


def _short(path: str) -> str:
    """Return a path as a user would type it: relative if it is below the working directory."""
    below = os.path.relpath(path)
    return path if below.startswith(os.pardir) else below


def _latest(runner: BaseRunner, messages: Dict[str, Any]) -> Optional[str]:
    folders = [os.path.dirname(messages.get('last_ckpt') or ''), runner.work_dir]
    for folder in filter(None, folders):
        if os.path.exists(os.path.join(folder, 'latest.pth')):
            return os.path.join(folder, 'latest.pth')
    return messages.get('last_ckpt')


def _with_target(path: str) -> str:
    target = os.path.basename(os.path.realpath(path))
    return _short(path) + ('' if target == os.path.basename(path) else f' ({target})')


def _best(path: str, score: float) -> str:
    """Return the best checkpoint with the parts of its name: best_<metric>_epoch_<n>.pth."""
    name, unit, number = os.path.basename(path)[len('best_'):-len('.pth')].rsplit('_', 2)
    return f'{_short(path)} ({name} {score:.4f}, {unit} {number})'


def _commands(runner: BaseRunner, settings: TestSettings, checkpoint: Optional[str],
              latest: Optional[str], is_interrupted: bool) -> List[Any]:
    config = os.path.join(_short(runner.work_dir), runner.meta.get('exp_name') or '')
    if settings.keys.is_used('custom_imports') and settings.keys.filename:
        config = settings.keys.filename  # modules may be next to the config itself
    found = []
    if checkpoint is not None:
        path = _short(checkpoint)
        if settings.data.test and os.path.isfile(config):
            found.append(('test', _line('test', config, path, *_eval_options(runner))))
        found.append(('predict', _line('predict', path, 'IMAGES', '--out', 'FOLDER')))
    found.append(('resume', _resume_command(runner, settings, latest, is_interrupted)))
    return found


def _line(name: str, *words: str) -> str:
    return ' '.join([how_to_run(name), *map(shlex.quote, words)])


def _eval_options(runner: BaseRunner) -> List[str]:
    """Return `--eval` with the metrics of the validation."""
    hook = next((hook for hook in runner.hooks if isinstance(hook, EvalHook)), None)
    if hook is None:
        return []
    dataset = hook.dataloader.dataset
    dataset = getattr(dataset, 'dataset', dataset)
    default = inspect.signature(dataset.evaluate).parameters.get('metric')
    metric = hook.eval_options.get('metric', getattr(default, 'default', None))
    metrics = [metric] if isinstance(metric, str) else list(metric or ())
    return ['--eval', *map(str, metrics)] if metrics else []


def _resume_command(runner: BaseRunner, settings: TestSettings, latest: Optional[str],
                    is_interrupted: bool) -> str:
    """Return the command of this process, changed to resume the run."""
    changes = {} if is_interrupted else _changes(runner, settings.keys)
    flags = ['--auto-resume']
    if settings.keys.is_in_a_file('resume_from'):
        flags = ['--resume-from',
                 _short(_furthest(runner, latest))]  # in a config it overrides --auto-resume
    typed = command_typed()
    if typed is None or typed.command.name != 'train' or dist.is_distributed():
        return ' and '.join(
            [f'the same command with {" ".join(flags)}', *(f'a higher {key}' for key in changes)])
    words = [
        word for word in typed.words
        if word != '--auto-resume' and not word.startswith('--resume-from=')
    ]
    if '--resume-from' in words:
        index = words.index('--resume-from')
        del words[index:index + 2]
    index = 1 if words and not words[0].startswith('-') else len(words)
    words[index:index] = flags
    options = [f'{key}={value}' for key, value in changes.items()]
    name = next((word for word in ('--cfg-options', '--options') if word in words), None)
    if options and name:
        words = [word for word in words if word.partition('=')[0] not in changes]
        index = words.index(name) + 1
        words[index:index] = options
    elif options:
        words += ['--cfg-options', *options]
    return ' '.join(map(shlex.quote, [*typed.program, *words]))


def _changes(runner: BaseRunner, keys: ConfigKeys) -> Dict[str, int]:
    """Map config keys that stop a run from resuming to values with which it continues: its length,
    and the patience of an early stop, which is restored on resume."""
    changes = {}
    name, limit = ('max_epochs', runner.max_epochs) if runner.by_epoch else ('max_iters',
                                                                             runner.max_iters)
    if runner.num_done()[0 if runner.by_epoch else 1] >= limit:
        is_old = keys.is_used('total_epochs') and runner.by_epoch
        changes['total_epochs' if is_old else f'runner.{name}'] = 2 * limit
    for hook in runner.hooks:
        if isinstance(hook, EarlyStopHook) and hook.waited >= hook.patience:
            changes['early_stop.patience'] = 2 * hook.patience
    return changes


def _furthest(runner: BaseRunner, latest: Optional[str]) -> str:
    """Return the checkpoint to resume: the one that a signal has left, or the last."""
    left = os.path.join(runner.work_dir, writing.INTERRUPTED)
    return left if os.path.exists(left) else latest or os.path.join(runner.work_dir, 'latest.pth')
