"""Command that repeats the failed step of a run from the `failure_<rank>.pt` in its work_dir."""
import argparse
import math
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))  # the package above this folder

from mmdet_ft.engine.begin import read_arguments  # noqa: E402
from mmdet_ft.engine.errors import command  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=
        'Repeat the step in which a run has failed: the same batch, weights and random numbers. '
        'Prints each loss then and now, or ends with the error again.')
    parser.add_argument('failure', help='failure_<rank>.pt of a work_dir')
    parser.add_argument('--checkpoint', help='weights to use instead of those before the step')
    parser.add_argument('--device', default='cpu', help="'cpu' (default), 'cuda', 'cuda:1'")
    return parser.parse_args()


# Parse arguments and read the config before importing torch: --help and wrong paths respond at once.
ARGS = read_arguments(parse_args) if __name__ == '__main__' else None

from mmdet_ft.engine.failures.replay import read_failure, replay  # noqa: E402


@command
def main() -> None:
    args = ARGS or parse_args()
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


if __name__ == '__main__':
    main()
