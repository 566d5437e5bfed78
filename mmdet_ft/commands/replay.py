"""Repeat the step in which a run has failed."""
import math
from argparse import Namespace

from mmdet_ft.engine.failures.replay import read_failure, replay


def main(args: Namespace) -> None:
    failure = read_failure(args.failure)
    print(
        f'iteration {failure["iteration"] + 1} of epoch {failure["epoch"] + 1}, on {failure["device"]}, '
        f'lr {failure["learning_rates"][0]:.4g}')
    for name in failure['files']:
        print(f'image: {name}')
    print(f'then: {failure["error"]}\n', flush=True)
    values = replay(failure, args.checkpoint, args.device)
    print(f'{"":24} {"then":>12} {"now":>12}')
    for name, now in values.items():
        then = failure['losses'].get(name)
        print(f'{name:24} {"" if then is None else format(then, "12.6g"):>12} {now:12.6g}')
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    print(f'\nnot finite: {", ".join(bad)}' if bad else '\nall finite: the step went through')
