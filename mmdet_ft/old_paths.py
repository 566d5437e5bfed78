"""Earlier paths of moved modules of this package, which still import.

A finder at the end of Python's list is asked only for modules that are not found otherwise.
"""
import importlib
import importlib.abc
import importlib.machinery
import sys
import types
import warnings
from typing import Dict, Optional

# (earlier package, current package): modules, `earlier=current` if the name has changed too.
MOVED = {
    ('engine.checks.config', 'engine.config_check'):
    'check classes levels=feature_levels mistakes names=top_level settings=run_settings '
    'kinds=value_kinds objects=literals paths pipelines sections vocabulary=schema '
    'walk=traverse',
    ('engine.checks', 'engine.run_check'):
    'data preflight manners=run_size',
    ('engine.checks', 'engine'):
    'dry_run',
    ('engine.checks', 'engine.models'):
    'labels',
    ('engine.failures', 'engine.distributed'):
    'watchdog interruption',
    ('engine.hooks', 'engine.runner'):
    'hook',
    ('engine', 'engine.run_check'):
    'overwriting',
    ('engine.hooks', 'engine.hooks'):
    'checks=monitoring',
    ('engine', 'engine.legacy'):
    'legacy_code=user_code',
    ('engine', 'engine.distributed'):
    'dist launch',
    ('engine', 'engine.reporting'):
    'log meters progress painting results figures data_outputs',
    ('engine', 'engine.speed'):
    'acceleration cuda_graphs precision prefetch devices',
    ('engine', 'engine.optimizers'):
    'optimizer update=optimizer_step',
    ('engine', 'engine.models'):
    'model=build trained frozen',
    ('engine', 'engine.settings'):
    'places=keys',
    ('engine.models', 'engine.settings'):
    'config_keys=keys',
    ('engine', 'engine.runner'):
    'single_values=batch_of_one state=resume_state seeds',
    ('engine', 'engine'):
    'setup=environment',
    ('datasets', 'datasets.detection'):
    'custom coco cityscapes lvis voc xml_style kitti labelme wider_face',
    ('datasets', 'datasets.annotations'):
    'coco_file coco_records values bounds text_files names=image_lists foreign to_coco packed '
    'masks',
    ('datasets', 'datasets.images'):
    'image_decoding=decoding image_files=files image_names=names image_sizes=sizes',
    ('datasets', 'datasets.loading'):
    'loader ring=shared_batches samplers sample_images',
    ('datasets.pipelines', 'datasets.pipelines.shared'):
    'loading formatting compose moves probe albu policies geometric=resize_flip color '
    'test_time=views',
    ('datasets.pipelines', 'datasets.pipelines.detection'):
    'by_level crop move=affine mix',
    ('datasets.pipelines', 'datasets.pipelines.classification'):
    'augment classifier_color=color classifier_crop=crop',
    ('checkpoints.kinds', 'checkpoints.formats'):
    'backbones detectron2 layout openmmlab origin table torchvision',
    ('checkpoints', 'checkpoints'):
    'heads=class_rows facts=input_format values=sanity',
    ('engine', ''):
    'legacy_api=old_functions',
    ('config', 'config'):
    'values=config_dict',
    ('evaluation', 'evaluation'):
    'old_numpy=numpy_compat text=table_output',
    ('ops', 'ops'):
    'switches=backends images=normalize ranking=topk',
    ('models.losses', 'models.losses'):
    'accuracy=top_k_accuracy cross_entropy=entropy',
    ('models.detectors', 'models.detectors'):
    'test_time=views',
}
# Removed packages: an empty one replaces each while its modules are imported.
FORMER_PACKAGES = ('engine.checks', 'engine.checks.config', 'checkpoints.kinds')


def _paths() -> Dict[str, str]:
    """Return {earlier dotted path: current path}."""
    paths = {}
    for (before, today), names in MOVED.items():
        for name in names.split():
            old, _, new = name.partition('=')
            paths['.'.join(filter(None, ('mmdet_ft', before, old)))] = '.'.join(
                filter(None, ('mmdet_ft', today, new or old)))
    return paths


class _KeepsFunctions(types.ModuleType):
    """A package whose function is not replaced when a module is imported that had the same name."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (isinstance(value, types.ModuleType) and name in vars(self)):
            super().__setattr__(name, value)


class EarlierPaths(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Import the current module for its earlier path, with a DeprecationWarning that names it."""

    def __init__(self):
        self.paths = _paths()
        self.packages = {f'mmdet_ft.{name}' for name in FORMER_PACKAGES}

    def find_spec(self,
                  fullname: str,
                  path: object = None,
                  target: object = None) -> Optional[importlib.machinery.ModuleSpec]:
        if fullname not in self.paths and fullname not in self.packages:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=fullname in self.packages)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        name = module.__name__
        if name in self.paths:
            warnings.warn(f'{name} is {self.paths[name]} today', DeprecationWarning, stacklevel=2)
            sys.modules[name] = importlib.import_module(self.paths[name])
            package, _, own = name.rpartition('.')
            if own in vars(
                    sys.modules[package]):  # Python is going to set the attribute to the module
                sys.modules[package].__class__ = _KeepsFunctions


def install() -> None:
    """Install the finder of earlier paths, once."""
    if not any(isinstance(finder, EarlierPaths) for finder in sys.meta_path):
        sys.meta_path.append(EarlierPaths())
