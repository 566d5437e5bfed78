"""Loggers to Weights & Biases: values, and with the hooks of V2's packages checkpoints and predicted images."""
import os
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple, Union

import numpy as np

from mmdet_ft.config.config import Config
from mmdet_ft.datasets.loading.sample_images import image_files, leaf_of
from mmdet_ft.datasets.pictures import pixel_boxes, truth_masks
from mmdet_ft.datasets.protocol import Dataset
from mmdet_ft.engine.hooks.checkpoint import CheckpointHook
from mmdet_ft.engine.hooks.evaluation import EvalHook
from mmdet_ft.engine.hooks.experiment_loggers import ExperimentLoggerHook
from mmdet_ft.engine.reporting.painting import image_of
from mmdet_ft.engine.runner.protocol import Runner
from mmdet_ft.registry import HOOKS
from mmdet_ft.visualization import decode_mask, split_result

SUMMARIES = ('min', 'max', 'mean', 'best', 'last', 'none')
Suffixes = Union[str, Tuple[str, ...], List[str]]


@HOOKS.register_module()
class WandbLoggerHook(ExperimentLoggerHook):
    """Values for Weights & Biases, and the logs and configs of the work_dir at the end.

    Args:
        init_kwargs: arguments of `wandb.init`: project, entity, name, ...
        commit: of `wandb.log`: False collects values until a commit.
        with_step: give the iteration as the step; else as the value `global_step`.
        log_artifact: upload files of the work_dir at the end of the run.
        out_suffix: endings of their names.
        define_metric_cfg: metric -> 'min', 'max', 'mean', 'best', 'last' or 'none': the run's summary.
        interval, ignore_last, reset_flag, by_epoch: see LoggerHook.

    Raises ValueError for another summary.
    """
    package, advice = 'wandb', 'pip install wandb'

    def __init__(self,
                 init_kwargs: Optional[Dict[str, Any]] = None,
                 interval: int = 10,
                 ignore_last: bool = True,
                 reset_flag: bool = False,
                 commit: bool = True,
                 by_epoch: bool = True,
                 with_step: bool = True,
                 log_artifact: bool = True,
                 out_suffix: Suffixes = ('.log.json', '.log', '.py'),
                 define_metric_cfg: Optional[Dict[str, str]] = None):
        super().__init__(interval, ignore_last, reset_flag, by_epoch)
        self.init_kwargs = dict(init_kwargs or {})
        self.commit = commit
        self.with_step = with_step
        self.log_artifact = log_artifact
        self.out_suffix = out_suffix if isinstance(out_suffix, str) else tuple(out_suffix)
        self.define_metric_cfg = dict(define_metric_cfg or {})
        for metric, summary in self.define_metric_cfg.items():
            if summary not in SUMMARIES:
                raise ValueError(
                    f'define_metric_cfg: the summary of {metric!r} is one of {", ".join(SUMMARIES)}, '
                    f'not {summary!r}')

    def start(self, runner: Runner) -> None:
        self.module.init(**self.init_kwargs)
        for metric, summary in self.define_metric_cfg.items():
            self.module.define_metric(metric, summary=summary)

    def write(self, runner: Runner, values: Dict[str, float]) -> None:
        now = self.get_iter(runner)
        if self.with_step:
            self.module.log(values, step=now, commit=self.commit)
        else:
            self.module.log({**values, 'global_step': now}, commit=self.commit)

    def finish(self, runner: Runner) -> None:
        if self.log_artifact:
            self._upload_files(runner.work_dir)
        self.module.finish()

    def _upload_files(self, folder: str) -> None:
        artifact = self.module.Artifact(name='artifacts', type='model')
        for path, _, names in sorted(os.walk(folder)):
            for name in sorted(names):
                if name.endswith(self.out_suffix):
                    artifact.add_file(os.path.join(path, name))
        self.module.log_artifact(artifact)


class WandbTableHook(WandbLoggerHook):
    """Base of the hooks of MMDetection and MMClassification: config, checkpoints and tables of images.

    A subclass describes an image by `truth_columns`, `prediction_columns` and the rows for them.
    """

    def __init__(self, init_kwargs: Optional[Dict[str, Any]], interval: int, log_checkpoint: bool,
                 log_checkpoint_metadata: bool, num_eval_images: int, **of_values: Any):
        super().__init__(init_kwargs, interval, **of_values)
        self.log_checkpoint = log_checkpoint
        self.log_checkpoint_metadata = log_checkpoint and log_checkpoint_metadata
        self.num_eval_images = num_eval_images
        self.checkpoint_hook: Optional[CheckpointHook] = None
        self.eval_hook: Optional[EvalHook] = None
        self.images: List[int] = []  # the indices of those in the tables
        self._saved_at: Optional[int] = None  # iterations done at that time
        self._tabled_at: Optional[int] = None

    @property
    def dataset(self) -> Dataset:
        """Return the validation set; the loader's own dataset seeds each sample."""
        assert self.eval_hook is not None
        dataset: Any = self.eval_hook.dataloader.dataset
        return getattr(dataset, 'dataset', dataset)

    @property
    def class_names(self) -> Sequence[str]:
        return self.dataset.CLASSES or ()

    def start(self, runner: Runner) -> None:
        super().start(runner)
        self._upload_config(runner)
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook):
                self.checkpoint_hook = hook
            elif isinstance(hook, EvalHook):
                self.eval_hook = hook
        if self.log_checkpoint and self.checkpoint_hook is None:
            runner.logger.warning('%s: log_checkpoint has no effect without checkpoint_config',
                                  type(self).__name__)
        if self.num_eval_images > 0 and self.eval_hook is None:
            runner.logger.warning('%s: num_eval_images has no effect without an evaluation',
                                  type(self).__name__)
        elif self.num_eval_images > 0:
            self._log_data(runner)

    def _upload_config(self, runner: Runner) -> None:
        path = os.path.join(runner.work_dir, str(runner.meta.get('exp_name')))
        if os.path.isfile(path):
            self.module.save(path, base_path=runner.work_dir)
            config = Config.fromfile(path)
            self.module.config.update({name: config[name] for name in config})

    def _log_data(self, runner: Runner) -> None:
        """Log the chosen images with their annotations once; later tables refer to them."""
        files = image_files(self.dataset)
        order = np.arange(len(files))
        np.random.RandomState(42).shuffle(order)  # the images that V2 chooses
        table = self.module.Table(columns=self.truth_columns())
        self.prepare_classes()
        for index in order[:self.num_eval_images].tolist():
            dataset, position = leaf_of(self.dataset, index)
            try:
                image = image_of(dataset, position, files[index])
            except (OSError, RuntimeError) as error:
                runner.logger.warning('no image of %s in the tables: %s', files[index].name, error)
                continue
            self.images.append(index)
            table.add_data(*self.truth_row(files[index].name, image[..., ::-1], dataset, position))
        artifact = self.module.Artifact('val', type='dataset')
        artifact.add(table, 'val_data')
        if getattr(self.module.run, 'offline', False):
            self.data = table
        else:
            self.module.run.use_artifact(artifact)
            artifact.wait()
            self.data = artifact.get('val_data')

    def after_train_epoch(self, runner: Runner) -> None:
        super().after_train_epoch(runner)
        if self.by_epoch and runner.rank == 0:
            self._log_progress(runner, 'epoch', runner.epoch + 1)

    def after_train_iter(self, runner: Runner) -> None:
        super().after_train_iter(runner)
        if not self.by_epoch and runner.rank == 0:
            self._log_progress(runner, 'iter', runner.iter + 1)

    def _log_progress(self, runner: Runner, unit: str, now: int) -> None:
        """Log the checkpoint and the predictions of the current weights, if there are new ones."""
        done = runner.iterations_done()
        evaluated = self.eval_hook if self.eval_hook is not None and self.eval_hook.has_evaluated(
            runner) else None
        aliases = ['latest', f'{unit}_{now}']
        if self.log_checkpoint and self.checkpoint_hook is not None and self._saved_at != done \
                and self.checkpoint_hook.has_saved(runner):
            self._saved_at = done
            metadata = {
                unit: now,
                **evaluated.latest_metrics
            } if self.log_checkpoint_metadata and evaluated is not None else None
            self._upload_checkpoint(runner.meta['hook_msgs']['last_ckpt'], aliases, metadata)
        if self.images and evaluated is not None and self._tabled_at != done:
            self._tabled_at = done
            self._log_predictions(now, aliases, evaluated.latest_results or [])

    def _upload_checkpoint(self, path: str, aliases: List[str],
                           metadata: Optional[Dict[str, Any]]) -> None:
        artifact = self.module.Artifact(
            f'run_{self.module.run.id}_model', type='model', metadata=metadata)
        artifact.add_file(path)
        self.module.log_artifact(artifact, aliases=aliases)

    def _log_predictions(self, now: int, aliases: List[str], results: Sequence[Any]) -> None:
        table = self.module.Table(columns=self.prediction_columns())
        for index, row in zip(self.images, self.data.data):
            table.add_data(*self.prediction_row(now, row, results[index]))
        artifact = self.module.Artifact(f'run_{self.module.run.id}_pred', type='evaluation')
        artifact.add(table, 'eval_data')
        self.module.run.log_artifact(artifact, aliases=aliases)

    def finish(self, runner: Runner) -> None:
        self.module.finish()

    def prepare_classes(self) -> None:
        """Prepare what all rows share."""

    def truth_columns(self) -> List[str]:
        """Return the columns of the table of images."""
        raise NotImplementedError

    def truth_row(self, name: str, image: np.ndarray, dataset: Dataset, index: int) -> List[Any]:
        """Return the row of an image, uint8 [H, W, 3] in RGB, sample `index` of a dataset."""
        raise NotImplementedError

    def prediction_columns(self) -> List[str]:
        """Return the columns of the table of predictions."""
        raise NotImplementedError

    def prediction_row(self, now: int, row: Sequence[Any], result: Any) -> List[Any]:
        """Return the row of an image for its result; `row` is that of the table of images."""
        raise NotImplementedError


@HOOKS.register_module()
class MMDetWandbHook(WandbTableHook):
    """WandbLoggerHook with the config, checkpoints, and validation images with truth and detections.

    Args:
        init_kwargs: arguments of `wandb.init`.
        log_checkpoint: upload each checkpoint as an artifact.
        log_checkpoint_metadata: add its metrics, if it is evaluated in the same epoch or iteration.
        num_eval_images: validation images of the tables; 0 logs none.
        bbox_score_thr: detections with a lower score are left out of the tables.
        interval, ignore_last, reset_flag, commit, by_epoch, with_step, log_artifact, out_suffix,
            define_metric_cfg: see WandbLoggerHook. log_artifact and out_suffix have no effect, as in V2.
    """
    advice = "pip install 'wandb>=0.12.10'"

    def __init__(self,
                 init_kwargs: Optional[Dict[str, Any]] = None,
                 interval: int = 50,
                 log_checkpoint: bool = False,
                 log_checkpoint_metadata: bool = False,
                 num_eval_images: int = 100,
                 bbox_score_thr: float = 0.3,
                 ignore_last: bool = True,
                 reset_flag: bool = False,
                 commit: bool = True,
                 by_epoch: bool = True,
                 with_step: bool = True,
                 log_artifact: bool = True,
                 out_suffix: Suffixes = ('.log.json', '.log', '.py'),
                 define_metric_cfg: Optional[Dict[str, str]] = None):
        super().__init__(
            init_kwargs,
            interval,
            log_checkpoint,
            log_checkpoint_metadata,
            num_eval_images,
            ignore_last=ignore_last,
            reset_flag=reset_flag,
            commit=commit,
            by_epoch=by_epoch,
            with_step=with_step,
            log_artifact=log_artifact,
            out_suffix=out_suffix,
            define_metric_cfg=define_metric_cfg)
        self.bbox_score_thr = bbox_score_thr

    def prepare_classes(self) -> None:
        self.names = {number: name for number, name in enumerate(self.class_names, 1)}
        self.classes = self.module.Classes(
            [dict(id=number, name=name) for number, name in self.names.items()])

    def truth_columns(self) -> List[str]:
        return ['image_name', 'image']

    def truth_row(self, name: str, image: np.ndarray, dataset: Dataset, index: int) -> List[Any]:
        assert hasattr(dataset, 'get_ann_info')
        truth = dataset.get_ann_info(index)
        boxes = pixel_boxes(dataset, index, truth)
        masks = truth_masks(truth, *image.shape[:2])
        return [name, self._picture(image, 'ground_truth', boxes, truth['labels'], masks)]

    def prediction_columns(self) -> List[str]:
        return ['image_name', 'ground_truth', 'prediction']

    def prediction_row(self, now: int, row: Sequence[Any], result: Any) -> List[Any]:
        by_class, masks_by_class = split_result(result)
        found = [(boxes[i], label, masks_by_class and masks_by_class[label][i])
                 for label, boxes in enumerate(by_class) for i in range(len(boxes))
                 if boxes[i][4] > self.bbox_score_thr]
        masks = [mask for _, _, mask in found] if masks_by_class else None
        picture = self._picture(row[1], 'predictions', [box for box, _, _ in found],
                                [label for _, label, _ in found], masks)
        return [row[0], row[1], picture]

    def _picture(self, image: Any, name: str, boxes: Iterable[np.ndarray], labels: Sequence[int],
                 masks: Optional[Sequence[Any]]) -> Any:
        """Return a wandb.Image with boxes [n, 4], or [n, 5] with scores, and masks under `name`."""
        drawn = [self._box(box, int(label) + 1) for box, label in zip(boxes, labels)]
        return self.module.Image(
            image,
            boxes={name: dict(box_data=drawn, class_labels=self.names)},
            masks=self._masks(masks, labels) if masks is not None else None,
            classes=self.classes)

    def _box(self, box: np.ndarray, number: int) -> Dict[str, Any]:
        score = f' {box[4]:.2f}' if len(box) == 5 else ''
        corners = (int(value) for value in box[:4])
        return dict(
            position=dict(zip(('minX', 'minY', 'maxX', 'maxY'), corners)),
            class_id=number,
            box_caption=f'{self.names[number]}{score}',
            domain='pixel')

    def _masks(self, masks: Sequence[Any], labels: Sequence[int]) -> Dict[str, Any]:
        """Return for each class one array of the pixels of its objects, with the class's number."""
        joined: Dict[int, np.ndarray] = {}
        for mask, label in zip(masks, labels):
            if mask is not None:
                number, pixels = int(label) + 1, decode_mask(mask)
                joined[number] = joined[number] | pixels if number in joined else pixels
        return {
            self.names[number]:
            dict(mask_data=pixels.astype(np.uint8) * np.uint8(number), class_labels=self.names)
            for number, pixels in joined.items()
        }


@HOOKS.register_module()
class MMClsWandbHook(WandbTableHook):
    """WandbLoggerHook with the config, checkpoints, and validation images with true and predicted class.

    Args:
        init_kwargs, log_checkpoint, log_checkpoint_metadata, num_eval_images: see MMDetWandbHook.
        interval, ignore_last, reset_flag, commit, by_epoch, with_step, log_artifact, out_suffix,
            define_metric_cfg: see WandbLoggerHook. log_artifact and out_suffix have no effect, as in V2.
    """

    def __init__(self,
                 init_kwargs: Optional[Dict[str, Any]] = None,
                 interval: int = 10,
                 log_checkpoint: bool = False,
                 log_checkpoint_metadata: bool = False,
                 num_eval_images: int = 100,
                 ignore_last: bool = True,
                 reset_flag: bool = False,
                 commit: bool = True,
                 by_epoch: bool = True,
                 with_step: bool = True,
                 log_artifact: bool = True,
                 out_suffix: Suffixes = ('.log.json', '.log', '.py'),
                 define_metric_cfg: Optional[Dict[str, str]] = None):
        super().__init__(
            init_kwargs,
            interval,
            log_checkpoint,
            log_checkpoint_metadata,
            num_eval_images,
            ignore_last=ignore_last,
            reset_flag=reset_flag,
            commit=commit,
            by_epoch=by_epoch,
            with_step=with_step,
            log_artifact=log_artifact,
            out_suffix=out_suffix,
            define_metric_cfg=define_metric_cfg)

    def truth_columns(self) -> List[str]:
        return ['image_name', 'image', 'ground_truth']

    def truth_row(self, name: str, image: np.ndarray, dataset: Dataset, index: int) -> List[Any]:
        assert hasattr(dataset, 'get_gt_labels')
        label = int(dataset.get_gt_labels()[index])
        return [name, self.module.Image(image), self.class_names[label]]

    def prediction_columns(self) -> List[str]:
        unit = 'epoch' if self.by_epoch else 'iter'
        return [unit, 'image_name', 'image', 'ground_truth', 'prediction', *self.class_names]

    def prediction_row(self, now: int, row: Sequence[Any], result: Any) -> List[Any]:
        scores = [float(score) for score in result]
        return [now, *row[:3], self.class_names[int(np.argmax(scores))], *scores]
