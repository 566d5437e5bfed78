"""Test a trained detector or classifier: write, evaluate, format or draw its results."""
import argparse
import json
import os
import pickle
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))  # the package beside this folder
# Read when torch starts its threads: those that wait for others give up their core soon. On shared cores steps took
# up to eight times longer without it.
os.environ.setdefault('GOMP_SPINCOUNT', '2000')

from mmdet_ft.checkpoints.fitting import load_trained  # noqa: E402
from mmdet_ft.config import DictAction, load_config  # noqa: E402
from mmdet_ft.config.options import add_options, take_older_options  # noqa: E402
from mmdet_ft.engine import dist  # noqa: E402
from mmdet_ft.engine.checks.config.check import prepare  # noqa: E402
from mmdet_ft.engine.errors import UserError, command  # noqa: E402
from mmdet_ft.engine.evaluate import multi_gpu_test, single_gpu_test  # noqa: E402
from mmdet_ft.engine.hooks.build import check_evaluation_options  # noqa: E402
from mmdet_ft.engine.hooks.build import count_all_detections  # noqa: E402
from mmdet_ft.engine.hooks.build import format_settings, split_evaluation  # noqa: E402
from mmdet_ft.engine.loaders import build_test_loader  # noqa: E402
from mmdet_ft.engine.log import get_root_logger, time_string  # noqa: E402
from mmdet_ft.engine.model import build_model  # noqa: E402
from mmdet_ft.engine.precision import build_precision  # noqa: E402
from mmdet_ft.engine.setup import choose_device, set_up_processes  # noqa: E402
from mmdet_ft.visualization import draw_detections, has_display  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Test (and evaluate) a detector or a classifier')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint of the model in it')
    parser.add_argument('--work-dir', help='folder for a json file with the metrics')
    parser.add_argument(
        '--out', help='file for the results: .pkl, or .json for those of a classifier')
    parser.add_argument(
        '--out-items',
        nargs='+',
        default=['all'],
        choices=['class_scores', 'pred_score', 'pred_label', 'pred_class', 'none', 'all'],
        help="what of a classifier's results, beside the metrics")
    parser.add_argument(
        '--fuse-conv-bn',
        action='store_true',
        help='fold norm layers into convolutions: a little faster')
    gpus = parser.add_mutually_exclusive_group()
    gpus.add_argument(
        '--gpu-ids', type=int, nargs='+', help='older spelling of --gpu-id: the first counts')
    gpus.add_argument('--gpu-id', type=int, default=0, help='GPU of a run of one process')
    parser.add_argument(
        '--format-only', action='store_true', help='write the results as a test server wants them')
    parser.add_argument(
        '--eval',
        '--metrics',
        nargs='+',
        help='metrics of the data set: bbox segm (COCO), mAP (VOC), accuracy f1_score (classifiers), ...')
    parser.add_argument(
        '--metric-options',
        nargs='+',
        action=DictAction,
        help="KEY=VALUE for a classifier's metrics: topk=1,5 thrs=0.5 average_mode=none")
    parser.add_argument('--show', action='store_true', help='show the results in a window')
    parser.add_argument('--show-dir', help='folder for painted images')
    parser.add_argument(
        '--show-score-thr', type=float, default=0.3, help='paint from this score on')
    parser.add_argument(
        '--gpu-collect',
        action='store_true',
        help='collect results of several processes over the network')
    parser.add_argument('--tmpdir', help='shared folder for collecting them otherwise')
    add_options(parser)
    add_options(parser, '--options', 'older spelling of --eval-options')
    add_options(parser, '--eval-options', 'arguments of evaluate or format_results')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, help='set by older launchers')
    args = parser.parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    take_older_options(parser, args, 'eval_options')
    if not (args.out or args.eval or args.format_only or args.show or args.show_dir):
        parser.error(
            'nothing to do with the results: give --out, --eval, --format-only, --show or --show-dir'
        )
    if args.eval and args.format_only:
        parser.error('--eval and --format-only exclude each other')
    if args.out and not args.out.endswith(('.pkl', '.pickle', '.json')):
        parser.error('--out must end in .pkl, .pickle or .json')
    if args.gpu_ids:
        args.gpu_id = args.gpu_ids[0]
    return args


@command
def main() -> None:
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options)
    cfg, notes = prepare(cfg, for_training=False)
    set_up_processes(cfg)
    if args.launcher != 'none':
        dist.init_dist(args.launcher, **cfg.get('dist_params', {}))
    else:
        dist.require_alone()
    rank, world_size = dist.get_dist_info()
    logger = get_root_logger(log_level=cfg.get('log_level', 'INFO'))
    for note in notes:
        logger.warning(note)

    device = choose_device(args.gpu_id)
    loader = build_test_loader(cfg, 'test')
    dataset = loader.dataset
    if args.out and args.out.endswith('.json') and not hasattr(dataset, 'result_items'):
        raise UserError(f'--out {args.out}: results of a detector are arrays, write a .pkl; --format-only writes json')
    evaluation = split_evaluation(cfg.get('evaluation') or {})[1]
    evaluation.update(args.eval_options or {})
    if args.metric_options:
        evaluation['metric_options'] = args.metric_options
    if args.eval:
        evaluation['metric'] = args.eval
        check_evaluation_options(dataset, evaluation)
        count_all_detections(cfg, dataset, evaluation)
    if args.format_only:
        folder = args.work_dir or os.path.dirname(args.checkpoint) or '.'
        evaluation = format_settings(dataset, args.eval_options or {}, folder)
    if args.show and not has_display():
        raise UserError('--show: there is no display here; --show-dir FOLDER writes the pictures')

    cfg.model.train_cfg = None
    model = build_model(cfg, dataset)
    load_trained(model, args.checkpoint)
    if args.fuse_conv_bn:
        from mmcv.cnn import fuse_conv_bn
        model = fuse_conv_bn(model)
    model = model.to(device).eval()

    watch = painter(args, model.CLASSES, getattr(dataset, 'PALETTE',
                                                 None)) if args.show or args.show_dir else None
    precision = build_precision(cfg.get('fp16'), device) if device.type == 'cuda' else None
    if world_size == 1:
        results = single_gpu_test(model, loader, precision=precision, watch=watch)
    else:
        gpu_collect = args.gpu_collect or (cfg.get('evaluation') or {}).get('gpu_collect', False)
        results = multi_gpu_test(
            model, loader, args.tmpdir, gpu_collect, precision=precision, watch=watch)

    if rank == 0:
        use_results(args, cfg, dataset, results, evaluation, logger)
    dist.shutdown()


def use_results(args: argparse.Namespace, cfg, dataset, results, evaluation, logger) -> None:
    """Write, format and evaluate, as the command line says."""
    content = results
    if hasattr(dataset, 'result_items'):  # a table by V2's keys instead of an entry for each image
        items = dataset.result_items(results)
        content = {key: items[key] for key in items if {key, 'all'} & set(args.out_items)}
    if args.out:
        logger.info('writing results to %s', args.out)
        write(content, args.out)
    if args.format_only:
        dataset.format_results(results, **evaluation)
        logger.info('results as a test server wants them: %s', evaluation)
    if args.eval:
        metrics = dataset.evaluate(results, logger=logger, **evaluation)
        print(dict(metrics))
        if args.out and isinstance(content, dict):
            write({**metrics, **content}, args.out)
        if args.work_dir:
            os.makedirs(args.work_dir, exist_ok=True)
            with open(
                    os.path.join(args.work_dir, f'eval_{time_string()}.json'), 'w',
                    encoding='utf-8') as file:
                json.dump(dict(config=args.config, metric=dict(metrics)), file, default=float)


def write(results, path: str) -> None:
    """As json, or pickled."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    if path.endswith('.json'):
        with open(path, 'w', encoding='utf-8') as file:
            json.dump(results, file, default=lambda value: value.tolist())
    else:
        with open(path, 'wb') as file:
            pickle.dump(results, file)


def painter(args: argparse.Namespace, classes, palette):
    """What paints the results of each image as they come."""
    import cv2

    def paint(views, results) -> None:
        for meta, result in zip(views[0].metas, results):
            image = cv2.imread(meta['filename'])
            if image is None:
                raise UserError(f'cannot read {meta["filename"]} to paint on it')
            painted = draw_detections(image, result, classes, args.show_score_thr, palette)
            if args.show_dir:
                # not beside the folder: a name may begin with ../ where images lie outside img_prefix
                name = os.path.normpath(meta['ori_filename']).replace(os.pardir + os.sep, '')
                path = os.path.join(args.show_dir, name)
                os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
                cv2.imwrite(path, painted)
            if args.show:
                cv2.imshow('detections', painted)
                cv2.waitKey(0)

    return paint


if __name__ == '__main__':
    main()
