"""Pictures of a test: the detections in each image, beside the ground truth if it is known."""
import logging
import os
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

from mmdet_ft.datasets.checks.images import read_loading
from mmdet_ft.datasets.checks.split import innermost
from mmdet_ft.datasets.images.names import same_name
from mmdet_ft.datasets.loading.sample_images import ImageFile, image_files, leaf_of
from mmdet_ft.datasets.pictures import draw_truth, has_truth
from mmdet_ft.datasets.pipelines.shared.loading import is_remote, read_image
from mmdet_ft.datasets.protocol import Dataset
from mmdet_ft.engine.distributed.dist import get_dist_info
from mmdet_ft.structures import Batch
from mmdet_ft.visualization import (BLACK, DrawingStyle, draw_detections, draw_label, enlarge,
                                    enlargement, palette_of, side_by_side, write_picture)

logger = logging.getLogger('mmdet_ft')
RED = (40, 40, 200)
WINDOW = 'detections: a key for the next'


class Painter:
    """Paints the results of each batch as it is done: a Watcher of `run_over`.

    Args:
        dataset: of the loader, in its order.
        classes: of the model.
        pictures: output path for each sample's picture; None writes none.
        score_thr: lower scores are left out.
        labels, color_by: of `DrawingStyle`.
        wait_time: seconds that a picture is shown in a window, 0 until a key is pressed; None shows none.
    """

    def __init__(self,
                 dataset: Dataset,
                 classes: Sequence[str],
                 pictures: Optional[List[str]],
                 score_thr: float = 0.3,
                 labels: str = 'auto',
                 color_by: str = 'auto',
                 wait_time: Optional[float] = None):
        self.dataset = dataset
        self.classes = classes
        self.pictures = pictures
        self.score_thr = score_thr
        self.labels = labels
        self.color_by = color_by
        self.wait_time = wait_time
        self.files = image_files(dataset)
        parts = innermost(dataset)
        self.palette = palette_of(type(parts[0]), classes)
        self.with_truth = any(has_truth(part) for part in parts)
        self._done = 0
        self._rank, self._world_size = get_dist_info()

    def __call__(self, views: Tuple[Batch, ...], results: List[Any]) -> None:
        for result in results:
            # Rank r of w holds the samples r, r + w, ...; the last ones may repeat the first.
            index = self._rank + self._world_size * self._done
            self._done += 1
            if index < len(self.files):
                self._paint_one(index, result)

    def _paint_one(self, index: int, result: object) -> None:
        try:
            picture = self.paint(index, result)
            if self.pictures is not None:
                write_picture(self.pictures[index], picture)
        except (OSError, ValueError, RuntimeError
                ) as error:  # one unreadable picture should not lose the results of the test
            logger.warning('no picture of %s: %s', self.files[index].name, error)
            return
        if self.wait_time is not None:
            import cv2
            cv2.imshow(WINDOW, picture)
            cv2.waitKey(int(1000 * self.wait_time))

    def paint(self, index: int, result: object) -> np.ndarray:
        """Paint the result of a sample: uint8 [H, W, 3] in BGR.

        Raises OSError and DataError for an image that cannot be read, ValueError for masks of another size.
        """
        dataset, position = leaf_of(self.dataset, index)
        image = image_of(dataset, position, self.files[index])
        look = DrawingStyle(self.labels, self.color_by, enlargement(image))
        if isinstance(result, np.ndarray):
            return self._paint_class(dataset, position, image, result)
        found = draw_detections(image, result, self.classes, self.score_thr, self.palette, look)
        if not self.with_truth:
            return found
        try:
            truth = draw_truth(dataset, position, image, look)
        except ValueError as error:
            logger.warning('no truth beside the picture of %s: %s', self.files[index].name, error)
            return found
        return side_by_side(truth, found, ('truth', 'prediction'))

    def _paint_class(self, dataset: Dataset, index: int, image: np.ndarray,
                     scores: np.ndarray) -> np.ndarray:
        """Paint the predicted class of a classifier, and the true one if it differs."""
        picture = enlarge(image)
        label = int(scores.argmax())
        text, color = f'{self.classes[label]} {scores[label]:.2f}', BLACK
        if hasattr(dataset, 'get_gt_labels'):
            truth = int(dataset.get_gt_labels()[index])
            if truth != label and 0 <= truth < len(self.classes):
                text, color = f'{text} (truth: {self.classes[truth]})', RED
        if self.labels != 'none':
            draw_label(picture, text, (0, 0, *picture.shape[1::-1]), color)
        return picture


def image_of(dataset: Dataset, index: int, file: ImageFile) -> np.ndarray:
    """Read the image of a sample as its pipeline does, uint8 in BGR; raises OSError and DataError."""
    if file.path is None:
        return dataset.data_infos[index]['img']
    # of the pipeline: a dataset's own file_client_args are those of its annotations
    loading = read_loading(getattr(getattr(dataset, 'pipeline', None), 'transforms', ()))
    path = file.path
    if not is_remote(loading.file_client_args) and not os.path.isfile(path):
        path = same_name(file.prefix, file.name) or path
    return read_image(path, {}, loading.file_client_args, 'color', 'bgr')
