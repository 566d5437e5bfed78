"""The images of a dataset, for models that read images by themselves."""
from typing import Any, List, Union

import numpy as np

from mmdet_ft.config.config import Config
from mmdet_ft.datasets.loading.sample_images import image_files
from mmdet_ft.engine.loaders import build_test_loader
from mmdet_ft.engine.settings.read import read_test_settings


def test_dataset(cfg: Config) -> Any:
    """Return the dataset of `data.test` of a prepared config."""
    return build_test_loader(read_test_settings(cfg).data, 'test').dataset


def images_of(dataset: Any) -> List[Union[str, np.ndarray]]:
    """Return the images in the order of the samples: paths, or arrays where they have no files of their own."""
    files = image_files(dataset)
    paths: List[Union[str, np.ndarray]] = [file.path for file in files if file.path is not None]
    return paths if len(paths) == len(files) else list(dataset.data_infos.images)
