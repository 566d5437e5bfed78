"""CIFAR-10 and CIFAR-100, from the published Python batches."""
import os.path as osp
from typing import Any, Dict, Optional, Sequence, Union

import numpy as np

from mmdet_ft.datasets.classification.base import ClassificationDataset, ImageRecords
from mmdet_ft.datasets.classification.files import check_md5, fetch, unpack
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.registry import DATASETS
from mmdet_ft.untrusted import load_pickle


@DATASETS.register_module()
class CIFAR10(ClassificationDataset):
    """Ten classes of 32 x 32 color images (Krizhevsky 2009): 50,000 for training, 10,000 for testing.

    Args:
        data_prefix: folder with `cifar-10-batches-py/`, or with the archive, which is unpacked there.
        pipeline: transforms; `img` is uint8 [32, 32, 3]. As in V2 its channels are those of the file, R G B, where
            images from files are B G R.
        classes: other names, in the order of the labels; default: those of the file.
        ann_file: not used.
        test_mode: use the 10,000 test images.
        download: download the archive when neither is there.
        check_md5: refuse batches other than the published ones; otherwise batches may be missing
            too.

    Raises DataError for missing files or other than published, UntrustedFileError for broken ones.
    """

    base_folder = 'cifar-10-batches-py'
    url = 'https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz'
    filename = 'cifar-10-python.tar.gz'
    tgz_md5 = 'c58f30108f718f92721af3b95e74349a'
    train_list = [
        ('data_batch_1', 'c99cafc152244af753f735de768cd75f'),
        ('data_batch_2', 'd4bba439e000b95fd0a9bffe97cbabec'),
        ('data_batch_3', '54ebc095f3ab1f0389bbae665268c751'),
        ('data_batch_4', '634d18415352ddfa80567beed471001a'),
        ('data_batch_5', '482c414d41f54cd18b22e5b47cb7c3cb'),
    ]
    test_list = [('test_batch', '40351d587109b95175f43aff81a1287e')]
    meta = dict(filename='batches.meta', key='label_names', md5='5ff9c542aee3614f3951f8cda6e48888')
    image_files = dict(channel_order='rgb')
    CLASSES = [
        'airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck'
    ]

    def __init__(self,
                 data_prefix: str,
                 pipeline: Sequence[Any],
                 classes: Union[str, Sequence[str], None] = None,
                 ann_file: Optional[str] = None,
                 test_mode: bool = False,
                 download: bool = True,
                 check_md5: bool = True):
        self.download = download
        self.check_md5 = check_md5
        self._classes_given = classes is not None
        super().__init__(data_prefix, pipeline, classes, ann_file, test_mode)

    def load_annotations(self) -> ImageRecords:
        folder = osp.join(self.data_prefix, self.base_folder)
        wanted = [
            *(self.test_list if self.test_mode else self.train_list),
            (self.meta['filename'], self.meta['md5'])
        ]
        self._make_available(folder, [name for name, _ in wanted])
        contents = [self._read(osp.join(folder, name), md5) for name, md5 in wanted]
        batches, meta = [content for content in contents[:-1] if content], contents[-1]
        if not batches or not meta:
            raise DataError(f'{type(self).__name__}: {folder} needs {self.meta["filename"]} and '
                            f'{" or ".join(name for name, _ in wanted[:-1])}')
        if not self._classes_given:
            self.CLASSES = [_text(name) for name in meta[self.meta['key']]]
        images = np.concatenate([np.asarray(batch['data']) for batch in batches])
        labels = np.concatenate(
            [batch.get('labels', batch.get('fine_labels')) for batch in batches])
        images = np.ascontiguousarray(images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        return ImageRecords(images, labels.astype(np.int64), folder)

    def _make_available(self, folder: str, names: Sequence[str]) -> None:
        """Download and unpack the archive if needed."""
        there = [osp.isfile(osp.join(folder, name)) for name in names]
        if all(there) or any(there) and not self.check_md5:
            return
        archive = osp.join(self.data_prefix, self.filename)
        if not osp.exists(archive):
            if not self.download:
                missing = ', '.join(name for name, here in zip(names, there) if not here)
                raise DataError(
                    f'{type(self).__name__}: {folder} has not {missing}, and there is no {archive}; correct '
                    f'data_prefix={self.data_prefix!r}, or let it be fetched with download=True')
            fetch([self.url], archive, self.tgz_md5)
        unpack(archive, self.tgz_md5 if self.check_md5 else None)

    def _read(self, path: str, md5: str) -> Dict[str, Any]:
        """Return a batch; empty for a missing one if that is allowed."""
        if not osp.isfile(path):
            return {}
        if self.check_md5:
            check_md5(path, md5)
        content = load_pickle(path, encoding='latin1')
        if not isinstance(content, dict):
            raise DataError(f'{path} is not a batch: it holds a {type(content).__name__}')
        return {_text(key): value for key, value in content.items()}


@DATASETS.register_module()
class CIFAR100(CIFAR10):
    """A hundred classes of 32 x 32 color images; see CIFAR10."""

    base_folder = 'cifar-100-python'
    url = 'https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz'
    filename = 'cifar-100-python.tar.gz'
    tgz_md5 = 'eb9058c3a382ffc7106e4002c42a8d85'
    train_list = [('train', '16019d7e3df5f24257cddd939b257f8d')]
    test_list = [('test', 'f0ef6b0ae62326f3e7ffdfab6717acfc')]
    meta = dict(filename='meta', key='fine_label_names', md5='7973b15100ade9c7d40fb424638fde48')
    CLASSES = [
        'apple', 'aquarium_fish', 'baby', 'bear', 'beaver', 'bed', 'bee', 'beetle', 'bicycle',
        'bottle', 'bowl', 'boy', 'bridge', 'bus', 'butterfly', 'camel', 'can', 'castle',
        'caterpillar', 'cattle', 'chair', 'chimpanzee', 'clock', 'cloud', 'cockroach', 'couch',
        'crab', 'crocodile', 'cup', 'dinosaur', 'dolphin', 'elephant', 'flatfish', 'forest', 'fox',
        'girl', 'hamster', 'house', 'kangaroo', 'keyboard', 'lamp', 'lawn_mower', 'leopard', 'lion',
        'lizard', 'lobster', 'man', 'maple_tree', 'motorcycle', 'mountain', 'mouse', 'mushroom',
        'oak_tree', 'orange', 'orchid', 'otter', 'palm_tree', 'pear', 'pickup_truck', 'pine_tree',
        'plain', 'plate', 'poppy', 'porcupine', 'possum', 'rabbit', 'raccoon', 'ray', 'road',
        'rocket', 'rose', 'sea', 'seal', 'shark', 'shrew', 'skunk', 'skyscraper', 'snail', 'snake',
        'spider', 'squirrel', 'streetcar', 'sunflower', 'sweet_pepper', 'table', 'tank',
        'telephone', 'television', 'tiger', 'tractor', 'train', 'trout', 'tulip', 'turtle',
        'wardrobe', 'whale', 'willow_tree', 'wolf', 'woman', 'worm'
    ]


def _text(value: Union[bytes, str]) -> str:
    """Decode a word of a batch, which copies made in Python 3 hold as bytes."""
    return value.decode('latin1') if isinstance(value, bytes) else value
