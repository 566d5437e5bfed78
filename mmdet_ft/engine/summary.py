"""The last lines of a run: its best checkpoint, where its files lie, and the commands to go on with."""
import glob
import inspect
import os
import shlex
import sys
from typing import Any, Dict, List, Optional

from mmdet_ft.checkpoints import writing
from mmdet_ft.config.config import Config
from mmdet_ft.engine import dist
from mmdet_ft.engine.hooks.evaluation import EvalHook


def last_words(runner: Any, cfg: Config, is_interrupted: bool = False) -> str:
    """Tell what a run leaves, best checkpoint first, and the commands to test, predict and go on."""
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
    lines += _commands(runner, cfg, best or latest, is_interrupted)
    stale = sorted(glob.glob(os.path.join(glob.escape(runner.work_dir), 'failure_*.pt')))
    if stale and not is_interrupted:
        lines.append((
            'left',
            f'{", ".join(map(_short, stale))}, of an earlier failure; remove what you do not need'))
    return '\n'.join(f'  {title + ":":<9}{text}' for title, text in lines)


def clear_up(runner: Any) -> None:
    """Remove the interrupted state of a run that has come to its end; on rank 0."""
    if runner.rank == 0:
        writing.remove_interrupted(runner.work_dir, runner.run_id)


def _short(path: str) -> str:
    """A path as one would type it: relative where it lies below the present folder."""
    below = os.path.relpath(path)
    return path if below.startswith(os.pardir) else below


def _latest(runner: Any, messages: Dict[str, Any]) -> Optional[str]:
    folders = [os.path.dirname(messages.get('last_ckpt') or ''), runner.work_dir]
    for folder in filter(None, folders):
        if os.path.exists(os.path.join(folder, 'latest.pth')):
            return os.path.join(folder, 'latest.pth')
    return messages.get('last_ckpt')


def _with_target(path: str) -> str:
    target = os.path.basename(os.path.realpath(path))
    return _short(path) + ('' if target == os.path.basename(path) else f' ({target})')


def _best(path: str, score: float) -> str:
    """The best checkpoint with what its name says: best_<metric>_epoch_<n>.pth."""
    name, unit, number = os.path.basename(path)[len('best_'):-len('.pth')].rsplit('_', 2)
    return f'{_short(path)} ({name} {score:.4f}, {unit} {number})'


def _commands(runner: Any, cfg: Config, checkpoint: Optional[str],
              is_interrupted: bool) -> List[Any]:
    tools = os.path.dirname(sys.argv[0]) if os.path.basename(sys.argv[0]) == 'train.py' else 'tools'
    config = os.path.join(_short(runner.work_dir), runner.meta.get('exp_name') or '')
    if cfg.get('custom_imports') and cfg.filename:  # modules may lie beside the config itself
        config = cfg.filename
    found = []
    if checkpoint is not None:
        path = _short(checkpoint)
        if (cfg.get('data') or {}).get('test') and os.path.isfile(config):
            found.append(('test', _command(f'{tools}/test.py', config, path,
                                           *_eval_options(runner))))
        found.append(('predict', _command(f'{tools}/predict.py', path, 'IMAGES', '--out',
                                          'FOLDER')))
    found.append(('go on', _go_on(runner, is_interrupted)))
    return found


def _command(*words: str) -> str:
    return 'python ' + ' '.join(map(shlex.quote, words))


def _eval_options(runner: Any) -> List[str]:
    """`--eval` with the metrics of the validation."""
    hook = next((hook for hook in runner.hooks if isinstance(hook, EvalHook)), None)
    if hook is None:
        return []
    dataset = hook.dataloader.dataset
    dataset = getattr(dataset, 'dataset', dataset)
    default = inspect.signature(dataset.evaluate).parameters.get('metric')
    metric = hook.eval_options.get('metric', getattr(default, 'default', None))
    metrics = [metric] if isinstance(metric, str) else list(metric or ())
    return ['--eval', *map(str, metrics)] if metrics else []


def _go_on(runner: Any, is_interrupted: bool) -> str:
    """The command of this process again, from where the run stands."""
    is_ended = not is_interrupted and runner.stop_reason is None
    limit = ('epochs', runner.max_epochs) if runner.by_epoch else ('iters', runner.max_iters)
    longer = f'runner.max_{limit[0]}={2 * limit[1]}'
    if os.path.basename(sys.argv[0]) != 'train.py' or dist.is_distributed():
        return 'the same command with --auto-resume' + (f' and a higher runner.max_{limit[0]}'
                                                        if is_ended else '')
    words = [word for word in sys.argv if word != '--auto-resume']
    if '--resume-from' in words:
        place = words.index('--resume-from')
        del words[place:place + 2]
    words.insert(2 if len(words) > 1 and not words[1].startswith('-') else len(words),
                 '--auto-resume')
    if is_ended:
        names = [word for word in ('--cfg-options', '--options') if word in words]
        if names:
            words = [word for word in words if not word.startswith(f'runner.max_{limit[0]}=')]
            words.insert(words.index(names[0]) + 1, longer)
        else:
            words += ['--cfg-options', longer]
    return _command(*words)
