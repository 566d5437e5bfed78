"""Exported models, run by ONNX Runtime: images in, MMDetection V2's results out."""
import os
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from mmdet_ft.deploy.facts import ModelFacts, from_metadata
from mmdet_ft.deploy.preparation import (MAX_PIXELS, Image, Prepared, group_by_size, network_input,
                                         prepare, read_image)
from mmdet_ft.errors import UserError
from mmdet_ft.ops.paste_crop import crop_of_mask

INSTALL = "pip install 'mmdet_ft[onnx]', or pip install onnx onnxruntime"


def open_session(path: Union[str, os.PathLike],
                 providers: Optional[Sequence[str]] = None,
                 num_threads: int = 0) -> Any:
    """Open a file in ONNX Runtime. Raises UserError if it is missing, broken, or onnxruntime is not installed."""
    try:
        import onnxruntime
    except ImportError:
        raise UserError(f'running an ONNX file needs onnxruntime: {INSTALL}') from None
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise UserError(f'there is no file {path!r}')
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = num_threads
    try:
        return onnxruntime.InferenceSession(
            path, options, providers=list(providers or ['CPUExecutionProvider']))
    except Exception as error:  # of types that onnxruntime does not export
        raise UserError(f'{path} cannot be run: {str(error).splitlines()[0]}') from error


class Model:
    """A file and its facts."""
    task: str

    def __init__(self,
                 path: Union[str, os.PathLike],
                 providers: Optional[Sequence[str]] = None,
                 num_threads: int = 0,
                 max_pixels: int = MAX_PIXELS):
        self.session = open_session(path, providers, num_threads)
        metadata = self.session.get_modelmeta().custom_metadata_map
        self.facts: ModelFacts = from_metadata(metadata, os.fspath(path))
        self.config: str = metadata.get('config', '')
        self.max_pixels = max_pixels
        if self.facts.task != self.task:
            raise UserError(
                f'{os.fspath(path)} is a {self.facts.task} ({self.facts.model}); open it with '
                f'mmdet_ft.deploy.{self.facts.task.capitalize()}')

    @property
    def CLASSES(self) -> Tuple[str, ...]:
        """Return the names of the classes, in the order of the results."""
        return self.facts.classes

    def __call__(self, images: Union[Image, Sequence[Image]], batch_size: int = 8) -> Any:
        """Return the result of an image, or a list of them for a list of images.

        images: a path, an array [H, W, 3] in BGR of 0..255 or gray [H, W], or a list of these. Images that have one
        size after the preparation run together, `batch_size` at a time.

        Raises UserError for what is no image.
        """
        if isinstance(images, (str, os.PathLike, np.ndarray)) or not isinstance(images, Sequence):
            return self._run_all([images], batch_size)[0]
        return self._run_all(images, batch_size)

    def _run_all(self, images: Sequence[Image], batch_size: int) -> List[Any]:
        prepared = [
            prepare(
                read_image(image, f'image {place}', self.max_pixels, self.facts.is_gray),
                self.facts) for place, image in enumerate(images)
        ]
        results: List[Any] = [None] * len(prepared)
        for group in group_by_size(prepared):
            for start in range(0, len(group), batch_size):
                places = group[start:start + batch_size]
                part = [prepared[place] for place in places]
                for place, result in zip(places, self._results(self.outputs(part), part)):
                    results[place] = result
        return results

    def outputs(self, images: Sequence[Prepared]) -> Dict[str, np.ndarray]:
        """Return the outputs of the file, by name, for prepared images of one size."""
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, network_input(images, self.facts))))

    def _results(self, outputs: Dict[str, np.ndarray], images: Sequence[Prepared]) -> List[Any]:
        raise NotImplementedError


class Classifier(Model):
    """A classifier of an ONNX file: `Classifier('model.onnx')(image)` gives scores, float32 [K].

    Args:
        path: file written by tools/deployment/pytorch2onnx.py.
        providers: of ONNX Runtime; the CPU by default.
        num_threads: 0 for as many as there are cores.
        max_pixels: larger images are refused.
    """
    task = 'classifier'

    def _results(self, outputs: Dict[str, np.ndarray], images: Sequence[Prepared]) -> List[Any]:
        return list(outputs['scores'].copy())

    def best(self, image: Image) -> Dict[str, Any]:
        """Return `inference_model`'s dict of the best class: pred_label, pred_score, pred_class."""
        scores = self(image)
        label = int(scores.argmax())
        return dict(
            pred_label=label, pred_score=float(scores[label]), pred_class=self.CLASSES[label])


class Detector(Model):
    """A detector of an ONNX file: `Detector('model.onnx')(image)` gives what `inference_detector` gives.

    A result is a list over classes of float32 [n, 5] (x0, y0, x1, y1 in pixels of the image, score), best first. With
    masks it is a pair of that and a list over classes of lists of bool [H, W].

    Args:
        path: file written by tools/deployment/pytorch2onnx.py.
        providers: of ONNX Runtime; the CPU by default.
        num_threads: 0 for as many as there are cores.
        max_pixels: larger images are refused.
    """
    task = 'detector'

    def _results(self, outputs: Dict[str, np.ndarray], images: Sequence[Prepared]) -> List[Any]:
        masks = outputs.get('masks')
        return [
            self._result(image, outputs['dets'][place], outputs['labels'][place],
                         None if masks is None else masks[place])
            for place, image in enumerate(images)
        ]

    def _result(self, image: Prepared, dets: np.ndarray, labels: np.ndarray,
                masks: Optional[np.ndarray]) -> Any:
        """Return the result of an image, without detections that lie in its padding."""
        dets = dets.copy()
        dets[:, :4] /= image.scale
        kept = np.flatnonzero((dets[:, 4] > 0) & ~_is_sliver(dets, image.shape))
        if masks is None:
            return [dets[kept[labels[kept] == label]] for label in range(len(self.CLASSES))]
        pasted = {place: self._paste(masks[place], dets[place], image) for place in kept}
        kept = np.array([place for place in kept if pasted[place].any()], np.int64)
        of_class = [kept[labels[kept] == label] for label in range(len(self.CLASSES))]
        return [dets[places] for places in of_class], [[pasted[place] for place in places]
                                                       for places in of_class]

    def _paste(self, mask: np.ndarray, box: np.ndarray, image: Prepared) -> np.ndarray:
        if self.facts.pastes:
            return mask
        canvas = np.zeros(image.shape, bool)
        crop = crop_of_mask(mask, box[:4], image.shape, self.facts.mask_threshold)
        if crop is not None:
            height, width = crop.pixels.shape
            canvas[crop.y0:crop.y0 + height, crop.x0:crop.x0 + width] = crop.pixels
        return canvas


def _is_sliver(dets: np.ndarray, shape: Tuple[int, int]) -> np.ndarray:
    """Return which boxes [n, 5] were clipped to less than a pixel at the right or lower edge."""
    x0, y0, x1, y1 = dets[:, :4].T
    height, width = shape
    return (x1 >= width - 1) & (x1 - x0 < 1) | (y1 >= height - 1) & (y1 - y0 < 1)


def open_model(path: Union[str, os.PathLike], num_threads: int = 0) -> Model:
    """Open a file as what it is, a detector or a classifier."""
    metadata = open_session(path).get_modelmeta().custom_metadata_map
    task = from_metadata(metadata, os.fspath(path)).task
    kind = Detector if task == Detector.task else Classifier
    return kind(path, num_threads=num_threads)
