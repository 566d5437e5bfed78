"""MNIST and Fashion-MNIST, from the four published files."""
import gzip
import os.path as osp
import zlib
from typing import Any, Optional, Sequence, Tuple, Union

import numpy as np

from mmdet_ft.datasets.classification.base import ClassificationDataset, ImageRecords
from mmdet_ft.datasets.classification.files import check_md5, fetch
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.registry import DATASETS


@DATASETS.register_module()
class MNIST(ClassificationDataset):
    """Handwritten digits (LeCun et al. 1998), 28 x 28 gray: 60,000 for training, 10,000 for testing.

    Args:
        data_prefix: folder of the files; they may be unpacked (without '.gz').
        pipeline: transforms; `img` is uint8 [28, 28].
        classes: other names, in the order of the labels.
        ann_file: not used.
        test_mode: use the 10,000 test images.
        download: download missing files.
        check_md5: refuse packed files that differ from the published ones.

    Raises DataError for files that are missing, broken, or differ from the published ones.
    """

    resource_prefix: Union[str, Sequence[str]] = ('https://ossci-datasets.s3.amazonaws.com/mnist/',
                                                  'http://yann.lecun.com/exdb/mnist/')
    resources = dict(
        train_image_file=('train-images-idx3-ubyte.gz', 'f68b3c2dcbeaaa9fbdd348bbdeb94873'),
        train_label_file=('train-labels-idx1-ubyte.gz', 'd53e105ee54ea40749a09fcbcd1e9432'),
        test_image_file=('t10k-images-idx3-ubyte.gz', '9fb629c4189551a2d022fa330f9573f3'),
        test_label_file=('t10k-labels-idx1-ubyte.gz', 'ec29112dd5afa0611ce80d1b7f02629c'))
    image_files = dict(color_type='grayscale')
    CLASSES = [
        '0 - zero', '1 - one', '2 - two', '3 - three', '4 - four', '5 - five', '6 - six',
        '7 - seven', '8 - eight', '9 - nine'
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
        super().__init__(data_prefix, pipeline, classes, ann_file, test_mode)

    def load_annotations(self) -> ImageRecords:
        split = 'test' if self.test_mode else 'train'
        images, path = self._array(f'{split}_image_file', 3)
        labels, label_path = self._array(f'{split}_label_file', 1)
        if len(images) != len(labels):
            raise DataError(
                f'{path} has {len(images)} images, {label_path} {len(labels)} labels; fetch both again'
            )
        if len(labels) and labels.max() >= len(self.CLASSES):
            raise DataError(
                f'{label_path} has the label {labels.max()}, and there are {len(self.CLASSES)} classes'
            )
        return ImageRecords(images, labels.astype(np.int64), path)

    def _array(self, key: str, num_axes: int) -> Tuple[np.ndarray, str]:
        """Return the array in one of the four files, and its path."""
        name, md5 = self.resources[key]
        path = osp.join(self.data_prefix, name)
        unpacked = path[:-len('.gz')]
        if not osp.exists(path) and osp.exists(unpacked):
            with open(unpacked, 'rb') as file:
                return read_idx(file.read(), unpacked, num_axes), unpacked
        if not osp.exists(path):
            if not self.download:
                raise DataError(
                    f'{type(self).__name__}: there is no {path}, nor the same unpacked; correct '
                    f'data_prefix={self.data_prefix!r}, or let it be fetched with download=True')
            bases = self.resource_prefix
            bases = [bases] if isinstance(bases, str) else bases
            fetch([base.rstrip('/') + '/' + name for base in bases], path, md5)
        if self.check_md5:
            check_md5(path, md5)
        try:
            with gzip.open(path) as file:
                content = file.read()
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f'cannot unpack {path}: {error}; fetch it again') from error
        return read_idx(content, path, num_axes), path


def read_idx(content: bytes, path: str, num_axes: int) -> np.ndarray:
    """Decode the uint8 array in a file of the idx format.

    The format is 0 0 8 and the number of axes, their lengths as big-endian int32, then the values.
    Raises DataError when it is something else.
    """
    begin = 4 + 4 * num_axes
    lengths = np.frombuffer(content[4:begin], dtype='>i4').tolist()
    if content[:4] != bytes((0, 0, 8, num_axes)) or len(content) - begin != np.prod(lengths):
        raise DataError(
            f'{path} is not an idx file of uint8 with {num_axes} axes (its first bytes are '
            f'{content[:4].hex(" ")}, its length {len(content)}); fetch it again')
    return np.frombuffer(content, dtype=np.uint8, offset=begin).reshape(lengths)


@DATASETS.register_module()
class FashionMNIST(MNIST):
    """Articles of clothing in MNIST's form (arXiv:1708.07747); see MNIST."""

    resource_prefix = 'http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/'
    resources = dict(
        train_image_file=('train-images-idx3-ubyte.gz', '8d4fb7e6c68d591d4c3dfef9ec88bf0d'),
        train_label_file=('train-labels-idx1-ubyte.gz', '25c81989df183df01b3e8a0aad5dffbe'),
        test_image_file=('t10k-images-idx3-ubyte.gz', 'bef4ecab320f06d8554ea6380940ec79'),
        test_label_file=('t10k-labels-idx1-ubyte.gz', 'bb300cfdad3c16e7a12a480ee83cd310'))
    CLASSES = [
        'T-shirt/top', 'Trouser', 'Pullover', 'Dress', 'Coat', 'Sandal', 'Shirt', 'Sneaker', 'Bag',
        'Ankle boot'
    ]
