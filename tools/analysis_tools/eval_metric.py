"""Evaluate, or format, the results that tools/test.py --out has written; the model is not run again."""
import argparse
import os
import sys
from typing import Any, Dict

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))  # the package beside tools/

from mmdet_ft.config import DictAction, load_config  # noqa: E402
from mmdet_ft.config.options import add_options  # noqa: E402
from mmdet_ft.engine.begin import read_arguments  # noqa: E402
from mmdet_ft.engine.errors import command, from_command_line  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'pkl_results',
        help='results of tools/test.py CONFIG CHECKPOINT --out; .json of a classifier')
    parser.add_argument(
        '--format-only', action='store_true', help='write the results as a test server wants them')
    parser.add_argument(
        '--eval',
        '--metrics',
        nargs='+',
        help='metrics of the dataset: bbox segm, mAP, accuracy f1_score (classifiers), ...')
    parser.add_argument(
        '--metric-options',
        nargs='+',
        action=DictAction,
        help="KEY=VALUE for a classifier's metrics: topk=1,5 thrs=0.5 average_mode=none")
    add_options(parser)
    add_options(parser, '--eval-options', 'arguments of evaluate or format_results')
    args = parser.parse_args()
    if args.eval and 'metric' in (args.eval_options or {}):
        parser.error('--eval-options metric: the metrics are those after --eval')
    if bool(args.eval) == args.format_only:
        parser.error('give --eval METRIC ... or --format-only')
    return args


# Parse arguments and read the config before importing torch: --help and wrong paths respond at once.
ARGS = read_arguments(parse_args) if __name__ == '__main__' else None

from mmdet_ft.engine import evaluate  # noqa: E402
from mmdet_ft.engine.config_check.check import prepare  # noqa: E402
from mmdet_ft.engine.hooks.evaluation import split_evaluation  # noqa: E402
from mmdet_ft.engine.loaders import build_test_dataset  # noqa: E402
from mmdet_ft.engine.reporting.data_outputs import inputs_of, require_apart_from_data  # noqa: E402
from mmdet_ft.engine.reporting.results import read_results  # noqa: E402
from mmdet_ft.engine.settings.read import read_test_settings  # noqa: E402


@command
def main() -> None:
    args = ARGS or parse_args()
    config, _ = prepare(load_config(args.config, args.cfg_options), for_training=False)
    settings = read_test_settings(config)
    dataset = build_test_dataset(settings.data, 'test')
    results = read_results(args.pkl_results, dataset, args.config)
    inputs = inputs_of(settings, dataset, args.config, args.pkl_results)

    def require_apart(options: Dict[str, Any]) -> None:
        for key, value in options.items():
            if key.endswith('_prefix') and value:
                require_apart_from_data(value, f'--eval-options {key}', dataset, inputs)

    if args.format_only:
        with from_command_line():
            options = evaluate.format_settings(dataset, args.eval_options or {}, '.')
        require_apart(options)
        dataset.format_results(results, **options)
        print(options)
        return
    evaluation = {**split_evaluation(settings.hooks.evaluation)[1], **(args.eval_options or {})}
    if args.metric_options:
        evaluation['metric_options'] = args.metric_options
    evaluation['metric'] = args.eval
    with from_command_line():
        evaluate.check_evaluation_options(dataset, evaluation)
    evaluate.count_all_detections(settings.model, dataset, evaluation)
    require_apart(evaluation)
    print(dict(dataset.evaluate(results, **evaluation)))


if __name__ == '__main__':
    main()
