"""Command to test a trained detector or classifier: write, evaluate, format or draw its results."""
import argparse
import json
import os
import pickle
import shlex
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))  # the package beside this folder
# libgomp reads it when torch starts its threads: waiting threads release their core soon. On shared cores, steps took
# up to eight times longer without it.
os.environ.setdefault('GOMP_SPINCOUNT', '2000')

from mmdet_ft.config import DictAction, load_config  # noqa: E402
from mmdet_ft.config.options import add_options, take_older_options  # noqa: E402
from mmdet_ft.engine.begin import read_arguments  # noqa: E402
from mmdet_ft.engine.errors import command, from_command_line  # noqa: E402
from mmdet_ft.errors import UsageError, UserError  # noqa: E402
from mmdet_ft.outputs import atomic_file  # noqa: E402
from mmdet_ft.outputs import PictureNames, add_drawing_options, require_folder

# Only wait_time is used; the others are MMClassification's, and the caption style here depends on the picture.
SHOW_OPTIONS = ('wait_time', 'text_color', 'font_scale', 'row_width', 'win_name', 'fig_size')


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
        help="entries of a classifier's results to write beside the metrics")
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
        help=
        'metrics of the dataset: bbox segm (COCO), mAP (VOC), accuracy f1_score (classifiers), ...')
    parser.add_argument(
        '--metric-options',
        nargs='+',
        action=DictAction,
        help="KEY=VALUE for a classifier's metrics: topk=1,5 thrs=0.5 average_mode=none")
    parser.add_argument('--show', action='store_true', help='show the results in a window')
    parser.add_argument('--show-dir', help='folder for images with drawn results')
    parser.add_argument('--show-score-thr', type=float, default=0.3, help='minimum score to draw')
    add_drawing_options(parser)
    parser.add_argument(
        '--show-options',
        nargs='+',
        action=DictAction,
        help='of --show: wait_time=SECONDS that a picture stays, 0 until a key is pressed')
    parser.add_argument('--device', help='cpu, cuda or cuda:1; the first GPU by default')
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
    if args.eval and 'metric' in (args.eval_options or {}):
        parser.error('--eval-options metric: the metrics are those after --eval')
    if args.eval and args.format_only:
        parser.error('--eval and --format-only exclude each other')
    if args.out and not args.out.endswith(('.pkl', '.pickle', '.json')):
        parser.error('--out must end in .pkl, .pickle or .json')
    if args.gpu_ids:
        args.gpu_id = args.gpu_ids[0]
    unknown = sorted(set(args.show_options or {}) - set(SHOW_OPTIONS))
    if unknown:
        parser.error(f'--show-options {", ".join(unknown)}: there is {", ".join(SHOW_OPTIONS)}')
    return args


# Parse arguments and read the config before importing torch: --help and wrong paths respond at once.
ARGS = read_arguments(parse_args) if __name__ == '__main__' else None

from mmdet_ft.datasets.loading.sample_images import image_files  # noqa: E402
from mmdet_ft.engine.config_check.check import prepare  # noqa: E402
from mmdet_ft.engine.distributed import dist  # noqa: E402
from mmdet_ft.engine.environment import choose_device, set_up_processes  # noqa: E402
from mmdet_ft.engine.evaluate import check_evaluation_options  # noqa: E402
from mmdet_ft.engine.evaluate import format_settings  # noqa: E402
from mmdet_ft.engine.evaluate import (count_all_detections, multi_gpu_test, require_masks,
                                      single_gpu_test)
from mmdet_ft.engine.hooks.evaluation import split_evaluation  # noqa: E402
from mmdet_ft.engine.loaders import build_test_loader  # noqa: E402
from mmdet_ft.engine.models.trained import build_trained  # noqa: E402
from mmdet_ft.engine.reporting.data_outputs import inputs_of, require_apart_from_data  # noqa: E402
from mmdet_ft.engine.reporting.log import get_root_logger, time_string  # noqa: E402
from mmdet_ft.engine.reporting.painting import Painter  # noqa: E402
from mmdet_ft.engine.run_check.data import check_image_files  # noqa: E402
from mmdet_ft.engine.settings.read import read_test_settings  # noqa: E402
from mmdet_ft.engine.speed.devices import take_device_option  # noqa: E402
from mmdet_ft.engine.speed.precision import build_precision  # noqa: E402
from mmdet_ft.visualization import has_display  # noqa: E402


@command
def main() -> None:
    args = ARGS or parse_args()
    gpu_id = take_device_option(args.device)
    args.gpu_id = args.gpu_id if gpu_id is None else gpu_id
    cfg = load_config(args.config, args.cfg_options)
    cfg, notes = prepare(cfg, for_training=False)
    settings = read_test_settings(cfg)
    set_up_processes(settings.processes)
    if args.launcher != 'none':
        dist.init_dist(args.launcher, **cfg.get('dist_params', {}))
    else:
        dist.require_alone()
    rank, world_size = dist.get_dist_info()
    logger = get_root_logger(log_level=cfg.get('log_level', 'INFO'))
    for note in notes:
        logger.warning(note)

    device = choose_device(args.gpu_id)
    loader = build_test_loader(settings.data, 'test')
    dataset = loader.dataset
    if rank == 0:
        check_image_files(settings.data, {'test': dataset}, logger)
    if args.out and args.out.endswith('.json') and not hasattr(dataset, 'result_items'):
        raise UsageError(
            f'--out {args.out}: results of a detector are arrays, write a .pkl; --format-only writes json'
        )
    evaluation = split_evaluation(settings.hooks.evaluation)[1]
    evaluation.update(args.eval_options or {})
    if args.metric_options:
        evaluation['metric_options'] = args.metric_options
    if args.eval:
        evaluation['metric'] = args.eval
        with from_command_line():
            check_evaluation_options(dataset, evaluation)
        count_all_detections(settings.model, dataset, evaluation)
    if args.format_only:
        folder = args.work_dir or os.path.dirname(args.checkpoint) or '.'
        with from_command_line():
            evaluation = format_settings(dataset, args.eval_options or {}, folder)
    if args.show and not has_display():
        raise UsageError('--show: there is no display here; --show-dir FOLDER writes the pictures')
    pictures = check_outputs(args, settings, dataset, evaluation)

    model = build_trained(settings.model, dataset, args.checkpoint)
    if args.eval:
        with from_command_line():
            require_masks(model, args.eval)
    if args.fuse_conv_bn:
        from mmcv.cnn import fuse_conv_bn
        model = fuse_conv_bn(model)
    model = model.to(device).eval()

    watch = None
    if args.show or args.show_dir:
        watch = Painter(
            dataset,
            model.CLASSES,
            pictures,
            args.show_score_thr,
            args.labels,
            args.color_by,
            wait_time=(args.show_options or {}).get('wait_time', 0) if args.show else None)
    precision = build_precision(settings.fp16, device) if device.type == 'cuda' else None
    if world_size == 1:
        results = single_gpu_test(model, loader, precision=precision, watch=watch)
    else:
        gpu_collect = args.gpu_collect or settings.hooks.evaluation.get('gpu_collect', False)
        results = multi_gpu_test(
            model, loader, args.tmpdir, gpu_collect, precision=precision, watch=watch)

    if rank == 0:
        use_results(args, dataset, results, evaluation, logger)
    dist.shutdown()


def check_outputs(args: argparse.Namespace, settings, dataset, evaluation):
    """Refuse to overwrite inputs before anything is computed; return the picture paths, None without --show-dir."""
    inputs = inputs_of(settings, dataset, args.config, args.checkpoint)
    if args.out:
        inputs.require_free(args.out, '--out')
        folder = os.path.dirname(os.path.abspath(args.out))
        require_folder(folder, '--out')
        os.makedirs(folder, exist_ok=True)
        if os.path.isdir(args.out) or not os.access(folder, os.W_OK):
            raise UserError(f'--out {args.out} cannot be written; name another file')
    if args.work_dir:
        require_folder(args.work_dir, '--work-dir')
    for key, value in evaluation.items():
        if key.endswith('_prefix') and value:
            require_apart_from_data(value, f'--eval-options {key}', dataset, inputs)
    if not args.show_dir:
        return None
    return PictureNames(args.show_dir, inputs, '--show-dir').take_all(image_files(dataset))


def use_results(args: argparse.Namespace, dataset, results, evaluation, logger) -> None:
    """Write, format and evaluate as the command line asks; the results are written first, as they took long."""
    content = results
    if args.out:
        if hasattr(dataset, 'result_items'):  # a table with V2's keys instead of an entry per image
            items = dataset.result_items(results)
            content = {key: items[key] for key in items if {key, 'all'} & set(args.out_items)}
        logger.info('writing results to %s', args.out)
        write(content, args.out)
    try:
        if args.format_only:
            dataset.format_results(results, **evaluation)
            logger.info('results as a test server wants them: %s', evaluation)
        if args.eval:
            metrics = dataset.evaluate(results, logger=logger, **evaluation)
    except Exception:
        keep_results(args, results, logger)
        raise
    if args.eval:
        print(dict(metrics))
        if args.out and isinstance(content, dict):
            write({**metrics, **content}, args.out)
        if args.work_dir:
            os.makedirs(args.work_dir, exist_ok=True)
            with open(
                    os.path.join(args.work_dir, f'eval_{time_string()}.json'), 'w',
                    encoding='utf-8') as file:
                json.dump(dict(config=args.config, metric=dict(metrics)), file, default=float)


def keep_results(args: argparse.Namespace, results, logger) -> None:
    """Log the path of the results after a failed evaluation; write them first if --out was not given."""
    path = args.out
    if path is None:
        folder = args.work_dir or os.path.dirname(args.checkpoint)
        if not os.path.isdir(folder or '.'):  # the checkpoint is a URL
            folder = ''
        path = os.path.join(folder, f'results_{time_string()}.pkl')
        write(results, path)
    logger.error(
        'The evaluation failed; the results are in %s. tools/analysis_tools/eval_metric.py %s %s '
        'evaluates them without running the images again', path, shlex.quote(args.config),
        shlex.quote(path))


def write(results, path: str) -> None:
    """Write results atomically, as json or pickle."""
    with atomic_file(path) as file:
        if path.endswith('.json'):
            text = json.dumps(results, default=lambda value: value.tolist())
            file.write(text.encode('utf-8'))
        else:
            pickle.dump(results, file)


if __name__ == '__main__':
    main()
