"""Check the annotations and images of a config, and name each defect with its fix."""
import sys
from argparse import Namespace

from rich.console import Console

from mmdet_ft.config.errors import ConfigError
from mmdet_ft.config.load import load_config
from mmdet_ft.datasets.checks.html import page
from mmdet_ft.datasets.checks.problem import Problem
from mmdet_ft.datasets.checks.report import render
from mmdet_ft.engine.config_check.check import prepare
from mmdet_ft.engine.legacy.old_configs import modernize
from mmdet_ft.engine.run_check.data import check_data
from mmdet_ft.errors import UserError
from mmdet_ft.outputs import Inputs


def main(args: Namespace) -> None:
    """Check the data and exit with 0: no defect; 1: defects; 2: the config cannot be read."""
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
