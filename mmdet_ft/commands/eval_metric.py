"""Evaluate or format results that `test --out` wrote, without running the model."""
from argparse import Namespace
from typing import Any, Dict

from mmdet_ft.config.load import load_config
from mmdet_ft.engine import evaluate
from mmdet_ft.engine.config_check.check import prepare
from mmdet_ft.engine.errors import from_command_line
from mmdet_ft.engine.hooks.evaluation import split_evaluation
from mmdet_ft.engine.loaders import build_test_dataset
from mmdet_ft.engine.reporting.data_outputs import inputs_of, require_apart_from_data
from mmdet_ft.engine.reporting.results import read_results
from mmdet_ft.engine.settings.read import read_test_settings


def main(args: Namespace) -> None:
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
