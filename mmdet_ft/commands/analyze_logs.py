"""Draw curves of losses and metrics from logs, or time the iterations."""
import glob
import json
import os
import sys
from argparse import Namespace
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

from mmdet_ft.errors import UserError
from mmdet_ft.file_kinds import LOG, TEXT, UNKNOWN, kind_of_file
from mmdet_ft.outputs import Inputs


class Log(NamedTuple):
    """The log lines of a run. x is the epoch, or the iteration for runs that count only iterations."""
    name: str
    axis: str
    x: List[float]
    lines: List[Dict[str, Any]]


def read(path: str) -> Log:
    """Read a log file, or all logs of a work_dir; iterations repeated by a resumed run replace the earlier ones.

    Raises UserError if there is no log, or no readable one.
    """
    lines: List[Dict[str, Any]] = []
    reasons = []
    for name in files_of(path):
        try:
            part = list(_lines_of(name))
        except OSError as error:
            part, reason = [], f'cannot read {name}: {error.strerror}'
        except ValueError as error:
            kind = kind_of_file(name)
            what = f'is {kind} and ' if kind not in (UNKNOWN, TEXT, LOG) else 'is '
            part, reason = [], f'{name} {what}no log of a run (*.log.json, a json a line): {error}'
        else:
            reason = f'{name} has no line of training or validation'
        if not part:
            reasons.append(reason)
        for line in part:
            _join(lines, line)
    if not lines:
        raise UserError('; '.join(reasons))
    for reason in reasons:
        print(f'passed over: {reason}', file=sys.stderr)
    train = [line for line in lines if line['mode'] == 'train']
    iters = [line['iter'] for line in train]
    counts_on = iters == sorted(set(iters)) and len({line['epoch'] for line in train}) > 1
    if counts_on or any(line.get('of_detectron2') for line in lines):
        return Log(path, 'iteration', _position_on_axis(lines, lambda line: line['iter']), lines)
    length = max(iters, default=1)
    return Log(path, 'epoch',
               _position_on_axis(lines, lambda line: line['epoch'] - 1 + line['iter'] / length),
               lines)


def files_of(path: str) -> List[str]:
    """List the logs of a work_dir, also of MMDetection 3, or the file itself. Raises UserError if there is none."""
    if not os.path.isdir(path):
        return [path]
    for pattern in ('*.log.json', os.path.join('*', 'vis_data', 'scalars.json'),
                    os.path.join('vis_data', 'scalars.json'), 'scalars.json', 'metrics.json'):
        names = sorted(glob.glob(os.path.join(glob.escape(path), pattern)))
        if names:
            return names
    raise UserError(f'no *.log.json in {path}')


def _lines_of(name: str) -> Iterator[Dict[str, Any]]:
    """Yield the training and validation lines of a log; broken lines are reported on stderr and skipped.

    Raises ValueError if no line is json.
    """
    with open(name, encoding='utf-8', errors='replace') as file:
        texts = [(number, text.replace('\0', '').strip()) for number, text in enumerate(file, 1)]
    texts = [(number, text) for number, text in texts if text]
    read_any, broken = False, []
    for number, text in texts:
        values, rest = _values_in(text)
        read_any |= bool(values)
        if rest:
            broken.append(f'line {number}: {rest[:40]!r}')
        for value in values:
            try:
                line = as_line(value)
            except (KeyError, TypeError, ValueError):
                broken.append(f'line {number}: without epoch or iter')
                continue
            if line is not None:
                yield line
    if texts and not read_any:
        raise ValueError(f'line {texts[0][0]} begins with {texts[0][1][:40]!r}')
    if broken:
        more = f' and {len(broken) - 3} more' if len(broken) > 3 else ''
        print(
            f'{name}: left out what cannot be read: {"; ".join(broken[:3])}{more}', file=sys.stderr)


def _values_in(text: str) -> Tuple[List[Dict[str, Any]], str]:
    """Parse the dicts in a line, which has several after an interrupted write; also return the unparsed rest."""
    decoder, values = json.JSONDecoder(), []
    while text:
        try:
            value, end = decoder.raw_decode(text)
        except ValueError:
            following = text.find('{"', 1)  # a truncated dict, followed by a complete one
            if following > 0:
                rest, text = text[:following], text[following:]
                more, _ = _values_in(text)
                return values + more, rest
            return values, text
        if not isinstance(value, dict):
            return values, text
        values.append(value)
        text = text[end:].lstrip()
    return values, ''


def as_line(value: Dict[str, Any]) -> Optional[Dict[str, Any]]:
    """Convert a log line of V2, MMDetection 3 or Detectron2 to V2's form; None for a line without metrics.

    Raises KeyError, TypeError or ValueError if the epoch or iteration is missing or invalid.
    """
    if 'mode' in value:
        return dict(value, epoch=int(value['epoch']), iter=int(value['iter']))
    if 'iteration' in value:  # Detectron2
        named = {'loss' if key == 'total_loss' else key: item for key, item in value.items()}
        mode = 'train' if 'loss' in named else 'val'
        return dict(named, mode=mode, epoch=1, iter=int(value['iteration']) + 1, of_detectron2=True)
    if 'step' in value:  # MMDetection 3: metrics have the prefix of their evaluator
        if 'loss' in value:
            return dict(
                value, mode='train', epoch=int(value.get('epoch', 1)), iter=int(value['step']))
        named = {key.rpartition('/')[2]: item for key, item in value.items()}
        return dict({**value, **named}, mode='val', epoch=int(value['step']), iter=0)
    return None


def _join(lines: List[Dict[str, Any]], line: Dict[str, Any]) -> None:
    """Append a line; if training restarts at an earlier iteration (a resumed run), drop the later lines first."""
    last = next((one for one in reversed(lines) if one['mode'] == 'train'), None)
    if line['mode'] == 'train' and last is not None and _position_of(last) >= _position_of(line):
        begin = next(number for number, one in enumerate(lines)
                     if one['mode'] == 'train' and _position_of(one) >= _position_of(line))
        del lines[begin:]
    lines.append(line)


def _position_of(line: Dict[str, Any]) -> Tuple[int, int]:
    """Return the (epoch, iteration) of a training line."""
    return line['epoch'], line['iter']


def _position_on_axis(lines: List[Dict[str, Any]], index: Callable[[Dict[str, Any]],
                                                                   float]) -> List[float]:
    """Return the x of each line; a validation gets the x that training had reached."""
    x, now = [], 0.
    for line in lines:
        now = index(line) if line['mode'] == 'train' else max(now, line['epoch'] if not x else now)
        x.append(now)
    return x


def plot_curve(args: Namespace, logs: List[Log]) -> None:
    try:
        import matplotlib
    except ImportError as error:
        raise UserError(f'drawing needs matplotlib ({error}): pip install matplotlib') from None
    if args.backend or args.out:
        matplotlib.use(args.backend or 'Agg')
    from matplotlib import pyplot
    style = next(
        (name
         for name in (args.style, f'seaborn-v0_8-{args.style}') if name in pyplot.style.available),
        None)
    if style is not None:
        pyplot.style.use(style)
    figure, axes = pyplot.subplots(layout='constrained', figsize=args.window_size)
    legend = iter(args.legend or [])
    for log in logs:
        for key in args.keys:
            points = [(x, line[key]) for x, line in zip(log.x, log.lines)
                      if line.get(key) is not None]
            others = {
                type(value).__name__
                for _, value in points if not isinstance(value, (int, float))
            }
            if others:
                raise UserError(
                    f'{key} of {log.name} is a {others.pop()}; only numbers can be plotted')
            if not points:
                known = sorted({
                    name
                    for line in log.lines
                    for name, value in line.items()
                    if isinstance(value, (int, float)) and name not in ('epoch', 'iter')
                })
                raise UserError(f'{log.name} has no {key}; it has {", ".join(known)}')
            name = next(legend, f'{os.path.basename(os.path.normpath(log.name))} {key}')
            axes.plot(*zip(*points), marker='o' if len(points) < 50 else None, label=name)
    axes.set(xlabel=' / '.join(sorted({log.axis for log in logs})), title=args.title)
    axes.legend()
    axes.grid(True, alpha=.3)
    if args.out:
        os.makedirs(os.path.dirname(args.out) or '.', exist_ok=True)
        try:
            figure.savefig(args.out, dpi=150)
        except ValueError as error:  # an unknown format
            raise UserError(f'--out {args.out}: {error}') from None
        print(args.out)
    else:
        pyplot.show()


def cal_train_time(args: Namespace, logs: List[Log]) -> None:
    for log in logs:
        times: Dict[int, List[float]] = {}
        for line in log.lines:
            if line['mode'] == 'train' and 'time' in line:
                times.setdefault(line['epoch'], []).append(line['time'])
        if not args.include_outliers:  # the first line of an epoch includes the loader's startup
            times = {epoch: values[1:] or values for epoch, values in times.items()}
        if not times:
            raise UserError(f'{log.name} has no line of training with a time')
        means = {epoch: sum(values) / len(values) for epoch, values in times.items()}
        every = [value for values in times.values() for value in values]
        mean = sum(means.values()) / len(means)
        spread = (sum((value - mean)**2 for value in means.values()) / len(means))**.5
        slowest, fastest = max(means, key=means.get), min(means, key=means.get)
        print(f'{log.name}\n'
              f'  slowest epoch {slowest}: {means[slowest]:.4f} s an iteration\n'
              f'  fastest epoch {fastest}: {means[fastest]:.4f} s an iteration\n'
              f'  spread of the epochs (standard deviation): {spread:.4f} s\n'
              f'  mean: {sum(every) / len(every):.4f} s an iteration')


def out_file(out: str, json_logs: List[str]) -> str:
    """Complete the path of the figure: curves.png in a folder, .png without a suffix. Raises UserError for a log."""
    if os.path.isdir(out) or out.endswith(('/', os.sep)):
        out = os.path.join(out, 'curves.png')
    if not os.path.splitext(out)[1]:
        out += '.png'
    Inputs(name for path in json_logs for name in files_of(path)).require_free(out, '--out')
    return out


def main(args: Namespace) -> None:
    if getattr(args, 'out', None):
        args.out = out_file(args.out, args.json_logs)
    logs = [read(path) for path in args.json_logs]
    {'plot_curve': plot_curve, 'cal_train_time': cal_train_time}[args.task](args, logs)
