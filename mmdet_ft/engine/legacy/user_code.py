"""User code written for MMDetection V2: new locations of its imports, and classes that cannot run.

Only this file and old_configs.py, its counterpart for configs, know old spellings.
"""
import ast
import importlib
import inspect
import os
import traceback
import types
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

from mmdet_ft.registry import (DATASETS, HOOKS, MODELS, OPTIMIZER_BUILDERS, PIPELINES, RUNNERS,
                               SAMPLERS)

OLD_PACKAGES = ('mmdet', 'mmcls')
ANY_PACKAGE = OLD_PACKAGES + ('mmcv', )  # mmcv still exists, with a part of its V2 modules
OURS = 'mmdet_ft'  # a script replaces its `mmdet` by this name, whose modules differ from V2's

# New locations of names of mmdet, mmcls and mmcv 1. Registered types need no line: the registries know them.
HOMES = {
    'mmdet_ft.datasets': 'PIPELINES DATASETS build_dataset build_dataloader BitmapMasks PolygonMasks',
    'mmdet_ft.datasets.pipelines': 'Compose to_tensor',
    'mmdet_ft.datasets.coco_api': 'COCO',
    'mmdet_ft.models': 'MODELS BACKBONES NECKS HEADS SHARED_HEADS ROI_EXTRACTORS LOSSES DETECTORS CLASSIFIERS '
                       'BBOX_ASSIGNERS BBOX_SAMPLERS BBOX_CODERS ANCHOR_GENERATORS PRIOR_GENERATORS IOU_CALCULATORS',
    'mmdet_ft.models.losses': 'weighted_loss weight_reduce_loss reduce_loss accuracy cross_entropy '
                              'binary_cross_entropy',
    'mmdet_ft.models.base_module': 'BaseModule Sequential ModuleList ModuleDict constant_init xavier_init normal_init '
                                   'trunc_normal_init uniform_init kaiming_init caffe2_xavier_init '
                                   'bias_init_with_prob initialize',
    'mmdet_ft.models.detectors.two_stage': 'TwoStageDetector',
    'mmdet_ft.engine.hooks': 'HOOKS Hook Priority get_priority master_only LoggerHook',
    'mmdet_ft.engine.runner': 'BaseRunner',
    'mmdet_ft.engine.distributed.dist': 'get_dist_info init_dist',
    'mmdet_ft.engine.reporting.log': 'get_root_logger collect_env',
    'mmdet_ft.registry': 'Registry build_from_cfg RUNNERS OPTIMIZERS OPTIMIZER_BUILDERS',
    'mmdet_ft.config': 'Config ConfigDict DictAction replace_cfg_vals update_data_root',
    'mmdet_ft.evaluation.table_output': 'print_log',
    'mmdet_ft.apis': 'init_detector inference_detector show_result_pyplot init_model inference_model train_detector '
                     'train_model build_detector build_classifier single_gpu_test multi_gpu_test set_random_seed '
                     'init_random_seed replace_ImageToTensor',
    'mmengine.fileio': 'load dump list_from_file dict_from_file FileClient',
    'mmengine.utils': 'is_str is_list_of is_seq_of is_tuple_of mkdir_or_exist check_file_exist scandir ProgressBar '
                      'Timer track_progress track_iter_progress track_parallel_progress to_2tuple digit_version',
    'torchvision.ops': 'nms batched_nms roi_align RoIAlign roi_pool RoIPool',
}  # yapf: disable
HOME_OF = {name: module for module, names in HOMES.items() for name in names.split()}

_BY_BUILD = 'from mmdet_ft.registry import MODELS, and MODELS.build(cfg)'
_ANOTHER_CONTRACT = (
    'a class of your own as docs/extending.md says: heads and detectors get a padded batch and '
    'are called otherwise')
# Names without an equivalent here.
ANSWERS = {
    **dict.fromkeys(('build_backbone', 'build_neck', 'build_head', 'build_loss',
                     'build_roi_extractor', 'build_shared_head', 'build_assigner', 'build_sampler', 'build_bbox_coder',
                     'build_anchor_generator', 'build_prior_generator', 'build_iou_calculator'), _BY_BUILD),
    **dict.fromkeys(('force_fp32', 'auto_fp16'), 'nothing, and leave the decorator out: fp16 in the config is autocast '
                                                 'around the whole model'),
    'DataContainer': 'nothing: samples hold plain arrays, tensors and lists',
    'is_module_wrapper': 'nothing: runner.model.module is the model in one process as in many',
    'multi_apply': 'nothing: what is done for each image or level is one call on padded tensors; see mmdet_ft/ops',
    'bbox_overlaps': 'from mmdet_ft.ops.boxes import pairwise_overlap',
    'reduce_mean': 'from mmdet_ft.models.losses.reduction import mean_over_processes',
    **dict.fromkeys(('load_checkpoint', '_load_checkpoint', 'load_state_dict'),
                    "init_cfg=dict(type='Pretrained', checkpoint=...) of the module; read(path).state_dict of "
                    'mmdet_ft.checkpoints.reading reads any file'),
    'save_checkpoint': 'runner.save_checkpoint(out_dir)',
    **dict.fromkeys(('OptimizerHook', 'Fp16OptimizerHook'), 'optimizer_config and fp16 in the config: backward, clip '
                                                            'and step are in mmdet_ft/engine/runner/base.py'),
    'LrUpdaterHook': 'lr_config in the config; a hook may set runner.optimizer.param_groups itself',
    'train_classifier': 'from mmdet_ft.apis import train, and train(cfg)',
    **dict.fromkeys(('MMDataParallel', 'MMDistributedDataParallel'),
                    'nothing: the model itself goes into train_detector, single_gpu_test and inference_detector; '
                    'several processes are wrapped by the run'),
    'wrap_fp16_model': 'nothing: fp16 in the config',
    'imshow_gt_det_bboxes': 'from mmdet_ft.visualization import draw_ground_truth',
    'get_palette': 'from mmdet_ft.visualization import class_colors',
    'mask2ndarray': 'nothing: gt_masks has to_ndarray()',
    'get_loading_pipeline': 'nothing: dataset.get_ann_info(index) has the truth of an image',
    'async_inference_detector': 'inference_detector(model, images): a list of images is run in batches',
    **dict.fromkeys(('bbox2result', 'bbox2roi', 'multiclass_nms', 'encode_mask_results'),
                    "nothing: model.results gives V2's results"),
    **dict.fromkeys(('eval_map', 'eval_recalls'), "dataset.evaluate(results, metric='mAP')"),
    **dict.fromkeys(('get_classes', 'coco_classes', 'voc_classes', 'cityscapes_classes'),
                    'CLASSES of the type: from mmdet_ft.datasets import CocoDataset, and CocoDataset.CLASSES'),
    **dict.fromkeys(('compat_cfg', 'setup_multi_processes', 'build_dp', 'build_ddp', 'get_device', 'rfnext_init_model',
                     'find_latest_checkpoint'),
                    'nothing: load_config and train of mmdet_ft.apis do it'),
    'imshow_det_bboxes': 'from mmdet_ft.visualization import draw_detections',
    **dict.fromkeys(('DeformConv2d', 'ModulatedDeformConv2d', 'DeformConv2dPack', 'ModulatedDeformConv2dPack'),
                    'from torchvision.ops import DeformConv2d'),
    'SigmoidFocalLoss': 'from mmdet_ft.models.losses import FocalLoss',
    **dict.fromkeys(('BaseDetector', 'SingleStageDetector', 'BaseDenseHead', 'BaseRoIHead', 'AnchorFreeHead',
                     'AnchorHead', 'BBoxTestMixin', 'MaskTestMixin', 'BaseClassifier', 'BaseHead'), _ANOTHER_CONTRACT),
    'BaseBackbone': 'from mmdet_ft.models.base_module import BaseModule',
}  # yapf: disable


class OldName(NamedTuple):
    line: int
    last_line: int
    written: str  # 'from mmdet.models import BACKBONES'
    instead: str  # 'from mmdet_ft.models import BACKBONES', or advice

    def __str__(self) -> str:
        return f'{self.written}: write {self.instead}'


def find_current_module(name: str) -> Optional[str]:
    """Return the module that has a name of V2 today."""
    if name in HOME_OF:
        return HOME_OF[name]
    for registry in (MODELS, DATASETS, PIPELINES, HOOKS, RUNNERS, SAMPLERS, OPTIMIZER_BUILDERS):
        cls = registry.get(name)
        if cls is not None and cls.__module__.startswith('mmdet_ft.'):
            return cls.__module__
    return None


def suggest_replacement(name: str) -> str:
    return ANSWERS.get(name, f'{name!r} in your own code: there is none here')


def old_names(source: str) -> List[OldName]:
    """Return the names that a source takes from mmdet, mmcls and removed parts of mmcv, in the
    order of its lines.

    Raises SyntaxError.
    """
    tree = ast.parse(source)
    found: List[OldName] = []
    inner: Set[int] = set()  # parts of longer dotted names
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level and _root(
                node.module) in ANY_PACKAGE + (OURS, ):
            found += _import_from(node)
        elif isinstance(node, ast.Import):
            found += [
                OldName(*_lines(node), f'import {alias.name}', _suggest_for_module(alias.name))
                for alias in node.names if _is_gone(alias.name)
            ]
        elif isinstance(node, ast.Attribute) and id(node) not in inner:
            inner.update(id(part) for part in ast.walk(node))
            dotted = _dotted(node)
            if dotted and _root(dotted) == 'mmcv' and _is_gone(dotted):
                found += _attribute(node, dotted)
    return sorted(set(found))


def _import_from(node: ast.ImportFrom) -> Iterator[OldName]:
    names = [alias.name for alias in node.names if _is_gone(f'{node.module}.{alias.name}')]
    homes: Dict[str, List[str]] = {}
    for name in names:
        home = find_current_module(name)
        if home is not None:
            homes.setdefault(home, []).append(name)
        elif name not in ANSWERS and (name == '*' or _is_module_name(name)):
            yield OldName(*_lines(node), f'from {node.module} import {name}',
                          _suggest_for_module(node.module))
        else:
            yield OldName(*_lines(node), f'from {node.module} import {name}',
                          suggest_replacement(name))
    for home, here in homes.items():
        yield OldName(*_lines(node), f'from {node.module} import {", ".join(here)}',
                      f'from {home} import {", ".join(here)}')


def _attribute(node: ast.AST, dotted: str) -> Iterator[OldName]:
    """Look up `mmcv.list_from_file(...)`: the first part that may be a name of this package decides."""
    for name in dotted.split('.')[1:]:
        home = find_current_module(name)
        if home is not None or name in ANSWERS:
            yield OldName(*_lines(node), dotted[:dotted.index(name) + len(name)],
                          f'from {home} import {name}' if home else suggest_replacement(name))
            return
    yield OldName(*_lines(node), dotted, suggest_replacement(dotted.rpartition('.')[2]))


def _suggest_for_module(module: str) -> str:
    if module.startswith('mmcv.parallel'):
        return 'nothing: samples hold plain arrays, tensors and lists, and runner.model.module is the model'
    if module.startswith('mmcv.ops'):
        return 'torchvision.ops'
    return (
        'imports by name: types and registries from mmdet_ft.models, mmdet_ft.datasets and mmdet_ft.engine.hooks, '
        'BaseModule from mmdet_ft.models.base_module')


def _lines(node: ast.AST) -> Tuple[int, int]:
    return node.lineno, node.end_lineno


def _is_module_name(name: str) -> bool:
    """Return whether a name is a module of V2 (core, models, ...): its functions are in lower case too."""
    return name in ('core', 'models', 'datasets', 'utils', 'apis', 'runner', 'parallel', 'ops',
                    'builder', 'pipelines')


def _is_gone(dotted: str) -> bool:
    """Return whether a dotted name is of mmdet or mmcls, or is missing in mmcv or this package."""
    if _root(dotted) not in ('mmcv', OURS):
        return _root(dotted) in OLD_PACKAGES
    module, _, name = dotted.rpartition('.')
    try:
        return not hasattr(importlib.import_module(module or name),
                           name) and bool(module) and not _is_module(dotted)
    except ImportError:
        return True


def _is_module(dotted: str) -> bool:
    try:
        importlib.import_module(dotted)
    except ImportError:
        return False
    return True


def _root(dotted: Optional[str]) -> str:
    return (dotted or '').partition('.')[0]


def _dotted(node: ast.AST) -> Optional[str]:
    if isinstance(node, ast.Attribute):
        before = _dotted(node.value)
        return before and f'{before}.{node.attr}'
    return node.id if isinstance(node, ast.Name) else None


# ------------------------------------------------------------------------------------------------- for the check


def explain_failed_import(error: BaseException) -> Optional[str]:
    """Explain an error raised by the import of a user's module, or return None if it is unrelated to V2.

    All old names of the file are listed at once, not only the line at which python stopped.
    """
    installed = f'{os.sep}site-packages{os.sep}'
    for cause in filter(None, (error, error.__cause__)):
        for frame in reversed(traceback.extract_tb(cause.__traceback__)):
            if installed in frame.filename or not os.path.isfile(frame.filename):
                continue
            names = _names_in(frame.filename)
            if any(name.line <= frame.lineno <= name.last_line for name in names):
                return _format_old_names(frame.filename, names)
    return None


def explain_modules(modules: Sequence[types.ModuleType]) -> Optional[str]:
    """Explain in the same way calls such as `mmcv.list_from_file` that would fail later, in imported modules.

    Imports pass: they may be in a `try`, or in a function that is never called.
    """
    texts = []
    for module in modules:
        path = str(getattr(module, '__file__', None))
        names = [name for name in _names_in(path)
                 if 'import ' not in name.written] if path.endswith('.py') else []
        texts += [_format_old_names(path, names)] if names else []
    return '\n'.join(texts) or None


def _names_in(path: str) -> List[OldName]:
    with open(path, encoding='utf-8') as file:
        source = file.read()
    try:
        return old_names(source) if any(package in source for package in ANY_PACKAGE) else []
    except SyntaxError:
        return []


def _format_old_names(path: str, names: List[OldName]) -> str:
    shown = os.path.relpath(path)
    shown = path if shown.startswith('..') else shown
    return '\n'.join(
        [f'{shown} is written for MMDetection V2; docs/extending.md has an example of each kind'] +
        [f'  {shown}:{name.line}: {name}' for name in names])


V2_METHODS = ('forward_train', 'simple_test', 'get_bboxes')
OUR_METHODS = ('predict', 'proposals')


def explain_class(cls: Any) -> Optional[str]:
    """Return the replacement for a user's head or detector with V2's methods, which nothing calls;
    None for others."""
    own = [
        base for base in getattr(cls, '__mro__', ())
        if _root(base.__module__) not in ('mmdet_ft', 'torch')
    ]
    old = [name for name in V2_METHODS if any(name in vars(base) for base in own)]
    if not old or any(name in vars(base) for base in own for name in OUR_METHODS):
        return None
    is_whole = any('extract_feat' in vars(base) for base in own)
    # Of classification: V2's detectors learn from gt_bboxes and gt_labels.
    if any('gt_label' in inspect.signature(vars(base)['forward_train']).parameters for base in own
           if 'forward_train' in vars(base)):
        model = ('forward(batch), loss(batch) and results(scores, metas) as ImageClassifier in '
                 'mmdet_ft/models/classifiers/image.py' if is_whole else
                 'forward(features), loss(logits, labels) and scores(logits) as ClsHead in '
                 'mmdet_ft/models/heads/cls_head.py')
    elif is_whole:
        model = 'loss(batch) and predict(batch) as Detector in mmdet_ft/models/detectors/base.py says'
    elif 'get_bboxes' in old:
        model = ('loss(outputs, batch) and proposals(outputs, batch) as RPNHead in '
                 'mmdet_ft/models/dense_heads/rpn_head.py')
    else:
        model = (
            'loss(features, proposals, batch) and predict(features, proposals, batch) as StandardRoIHead in '
            'mmdet_ft/models/roi_heads/standard_roi_head.py')
    return (
        f'{cls.__name__} is written for MMDetection V2: nothing calls its {" and ".join(old)}. Heads and detectors '
        f'get a padded batch (mmdet_ft/structures.py): write {model}')
