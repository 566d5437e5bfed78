"""Test a trained model: evaluate, write, format or draw its results."""
import json
import logging
import os
import pickle
import shlex
from argparse import Namespace
from typing import Any, Dict, List, Optional

import torch
from torch import nn
from torch.utils.data import DataLoader

from mmdet_ft.command_names import how_to_run
from mmdet_ft.config.load import load_config
from mmdet_ft.datasets.loading.sample_images import image_files
from mmdet_ft.datasets.protocol import Dataset
from mmdet_ft.engine.config_check.check import prepare
from mmdet_ft.engine.distributed import dist
from mmdet_ft.engine.environment import choose_device, set_up_processes
from mmdet_ft.engine.errors import from_command_line
from mmdet_ft.engine.evaluate import (check_evaluation_options, count_all_detections,
                                      format_settings, multi_gpu_test, require_masks,
                                      single_gpu_test)
from mmdet_ft.engine.hooks.evaluation import split_evaluation
from mmdet_ft.engine.loaders import build_test_loader
from mmdet_ft.engine.models.trained import build_trained
from mmdet_ft.engine.reporting.data_outputs import inputs_of, require_apart_from_data
from mmdet_ft.engine.reporting.log import get_root_logger, time_string
from mmdet_ft.engine.reporting.painting import Painter
from mmdet_ft.engine.run_check.data import check_image_files
from mmdet_ft.engine.settings.read import read_test_settings
from mmdet_ft.engine.settings.records import TestSettings
from mmdet_ft.engine.speed.precision import build_precision
from mmdet_ft.errors import UsageError, UserError
from mmdet_ft.outputs import PictureNames, atomic_file, require_folder
from mmdet_ft.visualization import has_display


def main(args: Namespace) -> None:
    cfg, notes = prepare(load_config(args.config, args.cfg_options), for_training=False)
    settings = read_test_settings(cfg)
    set_up_processes(settings.processes)
    if args.launcher != 'none':
        dist.init_dist(args.launcher, **cfg.get('dist_params', {}))
    else:
        dist.require_alone()
    logger = get_root_logger(log_level=cfg.get('log_level', 'INFO'))
    for note in notes:
        logger.warning(note)
    device = choose_device(args.gpu_id)
    loader = build_test_loader(settings.data, 'test')
    dataset = loader.dataset
    if dist.get_dist_info()[0] == 0:
        check_image_files(settings.data, {'test': dataset}, logger)
    options = read_options(args, settings, dataset)
    pictures = check_outputs(args, settings, dataset, options)
    model = build_model(args, settings, dataset).to(device).eval()
    watch = None
    if args.show or args.show_dir:
        wait_time = (args.show_options or {}).get('wait_time', 0) if args.show else None
        watch = Painter(dataset, model.CLASSES, pictures, args.show_score_thr, args.labels,
                        args.color_by, wait_time)
    results = run(args, settings, model, loader, device, watch)
    if results is not None:
        use_results(args, dataset, results, options, logger)
    dist.shutdown()


def read_options(args: Namespace, settings: TestSettings, dataset: Any) -> Dict[str, Any]:
    """Return the arguments of `dataset.evaluate`, or of `format_results` with --format-only.

    Raises UsageError for those that the dataset does not take.
    """
    if args.out and args.out.endswith('.json') and not hasattr(dataset, 'result_items'):
        raise UsageError(
            f'--out {args.out}: results of a detector are arrays, write a .pkl; --format-only writes json'
        )
    if args.format_only:
        folder = args.work_dir or os.path.dirname(args.checkpoint) or '.'
        with from_command_line():
            return format_settings(dataset, args.eval_options or {}, folder)
    options = split_evaluation(settings.hooks.evaluation)[1]
    options.update(args.eval_options or {})
    if args.metric_options:
        options['metric_options'] = args.metric_options
    if args.eval:
        options['metric'] = args.eval
        with from_command_line():
            check_evaluation_options(dataset, options)
        count_all_detections(settings.model, dataset, options)
    return options


def build_model(args: Namespace, settings: TestSettings, dataset: Dataset) -> nn.Module:
    """Build the model and load the checkpoint. Raises UsageError for a metric of masks that it does not give."""
    model = build_trained(settings.model, dataset, args.checkpoint)
    if args.eval:
        with from_command_line():
            require_masks(model, args.eval)
    if args.fuse_conv_bn:
        from mmcv.cnn import fuse_conv_bn
        model = fuse_conv_bn(model)
    return model


def run(args: Namespace, settings: TestSettings, model: nn.Module, loader: DataLoader,
        device: torch.device, watch: Optional[Painter]) -> Optional[List[Any]]:
    """Return the results of all images on rank 0, else None."""
    precision = build_precision(settings.fp16, device) if device.type == 'cuda' else None
    if dist.get_dist_info()[1] == 1:
        return single_gpu_test(model, loader, precision=precision, watch=watch)
    gpu_collect = args.gpu_collect or settings.hooks.evaluation.get('gpu_collect', False)
    return multi_gpu_test(model, loader, args.tmpdir, gpu_collect, precision=precision, watch=watch)


def check_outputs(args: Namespace, settings: TestSettings, dataset: Dataset,
                  options: Dict[str, Any]) -> Optional[List[str]]:
    """Refuse to overwrite inputs before anything is computed; return the picture paths, None without --show-dir."""
    if args.show and not has_display():
        raise UsageError('--show: there is no display here; --show-dir FOLDER writes the pictures')
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
    for key, value in options.items():
        if key.endswith('_prefix') and value:
            require_apart_from_data(value, f'--eval-options {key}', dataset, inputs)
    if not args.show_dir:
        return None
    return PictureNames(args.show_dir, inputs, '--show-dir').take_all(image_files(dataset))


def use_results(args: Namespace, dataset: Any, results: List[Any], options: Dict[str, Any],
                logger: logging.Logger) -> None:
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
            dataset.format_results(results, **options)
            logger.info('results as a test server wants them: %s', options)
        if args.eval:
            metrics = dataset.evaluate(results, logger=logger, **options)
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


def keep_results(args: Namespace, results: List[Any], logger: logging.Logger) -> None:
    """Log the path of the results after a failed evaluation; write them first if --out was not given."""
    path = args.out
    if path is None:
        folder = args.work_dir or os.path.dirname(args.checkpoint)
        if not os.path.isdir(folder or '.'):  # the checkpoint is a URL
            folder = ''
        path = os.path.join(folder, f'results_{time_string()}.pkl')
        write(results, path)
    logger.error(
        'The evaluation failed; the results are in %s. %s %s %s evaluates them without running the images again',
        path, how_to_run('eval_metric'), shlex.quote(args.config), shlex.quote(path))


def write(results: object, path: str) -> None:
    """Write results atomically, as json or pickle."""
    with atomic_file(path) as file:
        if path.endswith('.json'):
            text = json.dumps(results, default=lambda value: value.tolist())
            file.write(text.encode('utf-8'))
        else:
            pickle.dump(results, file)
