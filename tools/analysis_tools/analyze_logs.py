"""Look at the logs of runs: curves of losses and metrics, and what an iteration takes.

    python tools/analysis_tools/analyze_logs.py plot_curve work_dirs/pets --keys loss bbox_mAP --out curves.png
    python tools/analysis_tools/analyze_logs.py cal_train_time work_dirs/pets
"""
import argparse
import glob
import json
import os
import sys
from typing import Any, Dict, List, NamedTuple


class Log(NamedTuple):
    """The lines of a run. x is the epoch, or the iteration where a run counts those only."""
    name: str
    axis: str
    x: List[float]
    lines: List[Dict[str, Any]]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = parser.add_subparsers(dest='task', required=True)
    plot = tasks.add_parser('plot_curve', help='draw losses and metrics')
    time = tasks.add_parser('cal_train_time', help='the time of an iteration, epoch by epoch')
    for task in (plot, time):
        task.add_argument(
            'json_logs',
            nargs='+',
            help='*.log.json, or work_dirs: their logs, resumed ones joined')
    plot.add_argument(
        '--keys',
        nargs='+',
        default=['bbox_mAP'],
        help='names in the log: loss, loss_cls, bbox_mAP')
    plot.add_argument('--title', help='title of the figure')
    plot.add_argument('--legend', nargs='+', help='a name for each curve: log by log, key by key')
    plot.add_argument('--backend', help="matplotlib's backend")
    plot.add_argument('--style', default='dark', help="matplotlib's style")
    plot.add_argument('--out', help='file for the figure; a window is opened without')
    for name in ('--start-epoch', '--eval-interval'):
        plot.add_argument(name, help='not needed any more: each line of a log tells its epoch')
    time.add_argument(
        '--include-outliers', action='store_true', help="count the first line of each epoch too")
    args = parser.parse_args()
    if args.task == 'plot_curve' and args.legend and len(
            args.legend) != len(args.keys) * len(args.json_logs):
        parser.error(f'--legend needs {len(args.keys) * len(args.json_logs)} names: '
                     f'{len(args.json_logs)} logs by {len(args.keys)} keys')
    return args


def read(path: str) -> Log:
    """A log file, or all of a work_dir: what a resumed run did again replaces what stood before."""
    paths = sorted(glob.glob(os.path.join(path, '*.log.json'))) if os.path.isdir(path) else [path]
    if not paths:
        sys.exit(f'error: no *.log.json in {path}')
    lines: List[Dict[str, Any]] = []
    for name in paths:
        try:
            with open(name, encoding='utf-8') as file:
                part = [json.loads(line) for line in file if line.strip()]
        except OSError as error:
            sys.exit(f'error: cannot read {name}: {error.strerror}')
        except ValueError as error:
            sys.exit(f'error: {name} is no log of a run (*.log.json, a json a line): {error}')
        part = [line for line in part if 'mode' in line]
        if part:
            first = _place(part[0])
            lines = [line for line in lines if _place(line) < first] + part
    train = [line for line in lines if line['mode'] == 'train']
    iters = [line['iter'] for line in train]
    if iters == sorted(set(iters)) and len({line['epoch'] for line in train}) > 1:
        return Log(path, 'iteration', _carried(lines, lambda line: line['iter']), lines)
    length = max(iters, default=1)
    return Log(path, 'epoch',
               _carried(lines, lambda line: line['epoch'] - 1 + line['iter'] / length), lines)


def _place(line: Dict[str, Any]):
    """Where in the run a line stands."""
    return line['epoch'], line['iter'] if line['mode'] == 'train' else float('inf')


def _carried(lines, place) -> List[float]:
    """The place of each line; a validation stands where training had come."""
    x, now = [], 0.
    for line in lines:
        now = place(line) if line['mode'] == 'train' else max(now, line['epoch'] if not x else now)
        x.append(now)
    return x


def plot_curve(args: argparse.Namespace, logs: List[Log]) -> None:
    try:
        import matplotlib
    except ImportError as error:
        sys.exit(f'error: drawing needs matplotlib ({error}): pip install matplotlib')
    if args.backend or args.out:
        matplotlib.use(args.backend or 'Agg')
    from matplotlib import pyplot
    style = next(
        (name
         for name in (args.style, f'seaborn-v0_8-{args.style}') if name in pyplot.style.available),
        None)
    if style is not None:
        pyplot.style.use(style)
    figure, axes = pyplot.subplots(layout='constrained')
    legend = iter(args.legend or [])
    for log in logs:
        for key in args.keys:
            points = [(x, line[key]) for x, line in zip(log.x, log.lines) if key in line]
            if not points:
                known = sorted({
                    name
                    for line in log.lines
                    for name, value in line.items()
                    if isinstance(value, (int, float)) and name not in ('epoch', 'iter')
                })
                sys.exit(f'error: {log.name} has no {key}; it has {", ".join(known)}')
            name = next(legend, f'{os.path.basename(os.path.normpath(log.name))} {key}')
            axes.plot(*zip(*points), marker='o' if len(points) < 50 else None, label=name)
    axes.set(xlabel=' / '.join(sorted({log.axis for log in logs})), title=args.title)
    axes.legend()
    axes.grid(True, alpha=.3)
    if args.out:
        os.makedirs(os.path.dirname(args.out) or '.', exist_ok=True)
        figure.savefig(args.out, dpi=150)
        print(args.out)
    else:
        pyplot.show()


def cal_train_time(args: argparse.Namespace, logs: List[Log]) -> None:
    for log in logs:
        times: Dict[int, List[float]] = {}
        for line in log.lines:
            if line['mode'] == 'train' and 'time' in line:
                times.setdefault(line['epoch'], []).append(line['time'])
        if not args.include_outliers:  # the first line of an epoch has the start of the loader in it
            times = {epoch: values[1:] or values for epoch, values in times.items()}
        if not times:
            sys.exit(f'error: {log.name} has no line of training')
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


def main() -> None:
    args = parse_args()
    logs = [read(path) for path in args.json_logs]
    {'plot_curve': plot_curve, 'cal_train_time': cal_train_time}[args.task](args, logs)


if __name__ == '__main__':
    main()
