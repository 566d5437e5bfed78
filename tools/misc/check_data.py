"""Look for what is wrong with the data of a config: every annotation, every image, each defect with its fix."""
import argparse
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))  # the package beside tools/

from mmdet_ft.config import ConfigError, load_config  # noqa: E402
from mmdet_ft.config.options import add_options  # noqa: E402
from mmdet_ft.engine.begin import read_arguments  # noqa: E402
from mmdet_ft.engine.errors import UserError, command  # noqa: E402


def parse_args(arguments=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--splits', nargs='+', default=['train', 'val', 'test'], choices=['train', 'val', 'test'])
    parser.add_argument(
        '--no-images', action='store_true', help='read annotations only, open no image')
    parser.add_argument(
        '--workers',
        type=int,
        default=min(8,
                    os.cpu_count() or 1),
        help='processes that open images')
    parser.add_argument('--html', metavar='FILE', help='write a report with pictures')
    add_options(parser)
    args = parser.parse_args(arguments)
    if args.html and not args.html.lower().endswith(('.html', '.htm')):
        parser.error(f'--html {args.html}: the name of the report ends in .html')
    return args


# Parse arguments and read the config before importing torch: --help and wrong paths respond at once.
ARGS = read_arguments(parse_args) if __name__ == '__main__' else None

from rich.console import Console  # noqa: E402

from mmdet_ft.datasets.checks.html import page  # noqa: E402
from mmdet_ft.datasets.checks.problem import Problem  # noqa: E402
from mmdet_ft.datasets.checks.report import render  # noqa: E402
from mmdet_ft.engine.config_check.check import prepare  # noqa: E402
from mmdet_ft.engine.legacy.old_configs import modernize  # noqa: E402
from mmdet_ft.engine.run_check.data import check_data  # noqa: E402
from mmdet_ft.outputs import Inputs  # noqa: E402


@command
def main() -> None:
    """Check the data and exit with 0: no defect; 1: defects; 2: the config cannot be read."""
    args = ARGS or parse_args()
    config = load_config(args.config, args.cfg_options)
    problems = []
    try:
        config, _ = prepare(config)
    except ConfigError as error:  # report it, and still check the data
        problems.append(
            Problem('config', 'config', 1, str(error),
                    'correct the config; training stops at once here'))
        config, _ = modernize(config)
    inputs = Inputs([args.config, *(layer.path for layer in config.layers)])
    if args.html:
        inputs.require_free(args.html, '--html')
    report = check_data(config, args.splits, not args.no_images, args.workers)
    report = report._replace(problems=problems + report.problems)
    render(report, Console(width=None if sys.stdout.isatty() else 120))
    if args.html:
        for path in [path for split in report.splits for path in (split.source, *split.paths)]:
            inputs.add(path)
        inputs.require_free(args.html, '--html')
        try:
            with open(args.html, 'w', encoding='utf-8') as file:
                file.write(page(report, f'Data of {args.config}'))
        except OSError as error:
            raise UserError(f'cannot write {args.html!r}: {error.strerror}') from None
        print(f'report: {args.html}')
    sys.exit(1 if report.defects else 0)


if __name__ == '__main__':
    main()
