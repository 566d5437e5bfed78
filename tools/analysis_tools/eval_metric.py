"""Evaluate, or format, the results that tools/test.py --out has written; the model is not run again."""
import argparse
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))  # the package beside tools/

from mmdet_ft.config import load_config  # noqa: E402
from mmdet_ft.config.options import add_options  # noqa: E402
from mmdet_ft.engine.checks.config.check import prepare  # noqa: E402
from mmdet_ft.engine.errors import UserError, command  # noqa: E402
from mmdet_ft.engine.hooks import build  # noqa: E402
from mmdet_ft.engine.loaders import build_test_dataset  # noqa: E402
from mmdet_ft.untrusted import load_pickle  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('pkl_results', help='results of tools/test.py CONFIG CHECKPOINT --out')
    parser.add_argument(
        '--format-only', action='store_true', help='write the results as a test server wants them')
    parser.add_argument('--eval', nargs='+', help='metrics of the data set: bbox segm, mAP, ...')
    add_options(parser)
    add_options(parser, '--eval-options', 'arguments of evaluate or format_results')
    args = parser.parse_args()
    if bool(args.eval) == args.format_only:
        parser.error('give --eval METRIC ... or --format-only')
    return args


@command
def main() -> None:
    args = parse_args()
    config, _ = prepare(load_config(args.config, args.cfg_options), for_training=False)
    dataset = build_test_dataset(config, 'test')
    results = load_pickle(args.pkl_results)
    if not isinstance(results, list) or len(results) != len(dataset):
        count = len(results) if isinstance(results, list) else type(results).__name__
        raise UserError(
            f'{args.pkl_results} has {count} results and data.test {len(dataset)} images: '
            f'write it anew with tools/test.py {args.config} CHECKPOINT --out {args.pkl_results}')
    if args.format_only:
        settings = build.format_settings(dataset, args.eval_options or {}, '.')
        dataset.format_results(results, **settings)
        print(settings)
        return
    evaluation = {
        **build.split_evaluation(config.get('evaluation') or {})[1],
        **(args.eval_options or {})
    }
    evaluation['metric'] = args.eval
    build.check_evaluation_options(dataset, evaluation)
    build.count_all_detections(config, dataset, evaluation)
    print(dict(dataset.evaluate(results, **evaluation)))


if __name__ == '__main__':
    main()
