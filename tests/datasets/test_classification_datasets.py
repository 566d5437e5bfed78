"""Data sets of classifiers: what they read, refuse and fetch."""
import gzip
import hashlib
import http.server
import io
import logging
import os
import pickle
import tarfile
import threading

import cv2
import numpy as np
import pytest
import torch

from mmdet_ft.datasets.build import build_dataset
from mmdet_ft.datasets.classification.cifar import CIFAR10, CIFAR100
from mmdet_ft.datasets.classification.folder import ClassFolders, ImageNet
from mmdet_ft.datasets.classification.mnist import MNIST, FashionMNIST
from mmdet_ft.datasets.detection.custom import CustomDataset
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.loading.collate import collate
from mmdet_ft.datasets.loading.loader import build_dataloader
from mmdet_ft.registry import DATASETS
from mmdet_ft.structures import Batch, ClassTruth
from mmdet_ft.untrusted import UntrustedFileError

PIPELINE = [
    dict(type='Normalize', mean=[10.], std=[2.], to_rgb=True),
    dict(type='ImageToTensor', keys=['img']),
    dict(type='ToTensor', keys=['gt_label']),
    dict(type='Collect', keys=['img', 'gt_label'])
]


def idx(array):
    """The bytes of an idx file of uint8."""
    lengths = b''.join(length.to_bytes(4, 'big') for length in array.shape)
    return bytes((0, 0, 8, array.ndim)) + lengths + array.tobytes()


def digits(number, seed):
    draw = np.random.default_rng(seed)
    return draw.integers(
        0, 256, (number, 28, 28), dtype=np.uint8), draw.integers(
            0, 10, number, dtype=np.uint8)


def write_mnist(root, packed=True):
    """Four files of made digits; returns (images, labels) of training and test, and the md5 of each file."""
    root.mkdir(parents=True, exist_ok=True)
    splits, sums = (digits(12, 0), digits(5, 1)), {}
    for split, (images, labels) in zip(('train', 't10k'), splits):
        for name, array in ((f'{split}-images-idx3-ubyte', images), (f'{split}-labels-idx1-ubyte',
                                                                     labels)):
            content = gzip.compress(idx(array), mtime=0) if packed else idx(array)
            name += '.gz' if packed else ''
            (root / name).write_bytes(content)
            sums[name] = hashlib.md5(content).hexdigest()
    return splits, sums


def write_batches(folder, key=lambda name: name, batches=('data_batch_1', 'test_batch')):
    """CIFAR-10's files, ten images each; returns the images of the first, R G B."""
    folder.mkdir(parents=True)
    first = None
    for seed, name in enumerate(batches):
        draw = np.random.default_rng(seed)
        images = draw.integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
        first = images if first is None else first
        rows = images.transpose(0, 3, 1, 2).reshape(10, -1)
        content = {key('data'): rows, key('labels'): list(range(10))}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    names = [key(name) for name in CIFAR10.CLASSES]
    (folder / 'batches.meta').write_bytes(pickle.dumps({key('label_names'): names}))
    return first


def write_folders(root, counts, suffix='.png'):
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            image = np.full((20, 30, 3), 10 * number, dtype=np.uint8)
            cv2.imwrite(str(root / name / f'{number}{suffix}'), image)
    return str(root)


# ------------------------------------------------------------------------------------------- MNIST


@pytest.mark.parametrize('packed', [True, False])
def test_mnist_reads_packed_and_unpacked_files(tmp_path, packed):
    splits, _ = write_mnist(tmp_path, packed)
    for test_mode, (images, labels) in zip((False, True), splits):
        dataset = MNIST(str(tmp_path), [], test_mode=test_mode, download=False, check_md5=False)
        assert len(dataset) == len(images) and dataset.CLASSES[3] == '3 - three'
        assert all(np.array_equal(dataset[i]['img'], images[i]) for i in range(len(images)))
        assert dataset.get_gt_labels().tolist() == labels.tolist()
        sample = dataset[2]
        assert sample['gt_label'].shape == () and sample['gt_label'].dtype == np.int64


def test_images_are_one_array_that_no_sample_can_change(tmp_path):
    write_mnist(tmp_path)
    dataset = MNIST(str(tmp_path), [], check_md5=False)
    assert dataset.data_infos.images.shape == (12, 28, 28)
    before = dataset.data_infos.images.copy()
    dataset[3]['img'][:] = 0
    assert np.array_equal(dataset.data_infos.images, before)


def test_a_file_other_than_the_published_one_is_refused(tmp_path):
    write_mnist(tmp_path)
    with pytest.raises(DataError, match='not the published file: its md5 is .*check_md5=False'):
        MNIST(str(tmp_path), [])


def test_missing_files_are_told_when_nothing_may_be_fetched(tmp_path):
    with pytest.raises(DataError, match=r'there is no .*train-images.*data_prefix=.*download=True'):
        MNIST(str(tmp_path), [], download=False)
    with pytest.raises(
            DataError, match=r'cifar-10-batches-py has not data_batch_1, .*download=True'):
        CIFAR10(str(tmp_path), [], download=False)


@pytest.mark.parametrize('damage, message', [
    (lambda content: b'\x00\x00\x0d' + content[3:], 'not an idx file'),
    (lambda content: content[:-1], 'not an idx file'),
])
def test_a_broken_idx_file_is_named(tmp_path, damage, message):
    write_mnist(tmp_path, packed=False)
    path = tmp_path / 'train-images-idx3-ubyte'
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f'train-images-idx3-ubyte is {message}'):
        MNIST(str(tmp_path), [])


def test_labels_of_another_number_than_images_are_refused(tmp_path):
    write_mnist(tmp_path, packed=False)
    (tmp_path / 'train-labels-idx1-ubyte').write_bytes(idx(np.zeros(11, dtype=np.uint8)))
    with pytest.raises(DataError, match='has 12 images, .* 11 labels'):
        MNIST(str(tmp_path), [])


# ---------------------------------------------------------------------------------------- fetching


@pytest.fixture
def server(tmp_path):
    """(address, folder that it serves, paths that were asked for)."""
    folder, asked = tmp_path / 'served', []
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):

        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args):
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield f'http://127.0.0.1:{httpd.server_port}', folder, asked
        httpd.shutdown()


def test_mnist_is_fetched_once_from_the_first_mirror_that_has_it(tmp_path, server, monkeypatch):
    address, folder, asked = server
    splits, sums = write_mnist(folder / 'mnist')
    resources = {key: (name, sums[name]) for key, (name, _) in MNIST.resources.items()}
    monkeypatch.setattr(MNIST, 'resources', resources)
    monkeypatch.setattr(MNIST, 'resource_prefix', [f'{address}/gone/', f'{address}/mnist/'])
    dataset = MNIST(str(tmp_path / 'data'), [])
    assert dataset.get_gt_labels().tolist() == splits[0][1].tolist()
    assert sorted(os.listdir(
        tmp_path / 'data')) == ['train-images-idx3-ubyte.gz', 'train-labels-idx1-ubyte.gz']
    asked.clear()
    MNIST(str(tmp_path / 'data'), [])
    assert not asked


def test_what_is_not_the_published_file_is_not_kept(tmp_path, server, monkeypatch):
    address, folder, _ = server
    write_mnist(folder)
    monkeypatch.setattr(MNIST, 'resource_prefix', f'{address}/')
    with pytest.raises(DataError, match='cannot download .*what came has the md5'):
        MNIST(str(tmp_path / 'data'), [])
    assert os.listdir(tmp_path / 'data') == []


def test_an_archive_is_fetched_and_unpacked(tmp_path, server, monkeypatch):
    address, folder, _ = server
    images = write_batches(tmp_path / 'made' / 'cifar-10-batches-py')
    with tarfile.open(folder / 'cifar.tar.gz', 'w:gz') as tar:
        tar.add(tmp_path / 'made' / 'cifar-10-batches-py', 'cifar-10-batches-py')
    sums = {
        path.name: hashlib.md5(path.read_bytes()).hexdigest()
        for path in (tmp_path / 'made' / 'cifar-10-batches-py').iterdir()
    }
    monkeypatch.setattr(CIFAR10, 'url', f'{address}/cifar.tar.gz')
    monkeypatch.setattr(CIFAR10, 'tgz_md5',
                        hashlib.md5((folder / 'cifar.tar.gz').read_bytes()).hexdigest())
    monkeypatch.setattr(CIFAR10, 'train_list', [('data_batch_1', sums['data_batch_1'])])
    monkeypatch.setattr(CIFAR10, 'meta', {**CIFAR10.meta, 'md5': sums['batches.meta']})
    dataset = CIFAR10(str(tmp_path / 'data'), [])
    assert np.array_equal(dataset[4]['img'], images[4]) and len(dataset) == 10
    (tmp_path / 'data' / 'cifar-10-batches-py' / 'data_batch_1').write_bytes(b'x')
    with pytest.raises(DataError, match='data_batch_1 is not the published file'):
        CIFAR10(str(tmp_path / 'data'), [])


# ------------------------------------------------------------------------------------------- CIFAR


@pytest.mark.parametrize('key', [str, str.encode], ids=['text', 'bytes'])
def test_cifar_reads_a_part_of_the_batches_without_md5(tmp_path, key):
    images = write_batches(tmp_path / 'cifar-10-batches-py', key)
    dataset = CIFAR10(str(tmp_path), [], check_md5=False, download=False)
    assert [np.array_equal(dataset[i]['img'], images[i]) for i in range(10)] == [True] * 10
    assert list(dataset.CLASSES) == CIFAR10.CLASSES and dataset.get_cat_ids(7) == [7]
    assert len(CIFAR10(str(tmp_path), [], check_md5=False, test_mode=True)) == 10


def test_cifar100_takes_the_fine_labels(tmp_path):
    folder = tmp_path / 'cifar-100-python'
    folder.mkdir()
    rows = np.zeros((3, 3072), dtype=np.uint8)
    (folder / 'train').write_bytes(
        pickle.dumps(dict(data=rows, fine_labels=[5, 99, 0], coarse_labels=[1, 2, 3])))
    (folder / 'meta').write_bytes(pickle.dumps(dict(fine_label_names=CIFAR100.CLASSES)))
    dataset = CIFAR100(str(tmp_path), [], check_md5=False)
    assert dataset.get_gt_labels().tolist() == [5, 99, 0] and len(dataset.CLASSES) == 100


class Evil:

    def __reduce__(self):
        return os.system, ('true', )


def test_a_batch_that_would_run_something_is_refused(tmp_path):
    write_batches(tmp_path / 'cifar-10-batches-py')
    (tmp_path / 'cifar-10-batches-py' / 'data_batch_1').write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UntrustedFileError, match='data_batch_1 asks for .*system'):
        CIFAR10(str(tmp_path), [], check_md5=False)


def test_an_archive_cannot_write_outside_its_folder(tmp_path):
    with tarfile.open(tmp_path / 'cifar-10-python.tar.gz', 'w:gz') as tar:
        member = tarfile.TarInfo('../outside')
        member.size = 1
        tar.addfile(member, io.BytesIO(b'x'))
    with pytest.raises(UntrustedFileError, match='outside'):
        CIFAR10(str(tmp_path / '.'), [], check_md5=False, download=False)
    assert not (tmp_path.parent / 'outside').exists()


# ------------------------------------------------------------------------------------ class folders


def test_sorted_folders_are_the_classes(tmp_path):
    root = write_folders(tmp_path, dict(dog=2, cat=3))
    (tmp_path / 'cat' / 'deep').mkdir()
    os.rename(tmp_path / 'cat' / '2.png', tmp_path / 'cat' / 'deep' / 'X.PNG')
    (tmp_path / 'cat' / 'notes.txt').write_text('')
    dataset = ClassFolders(root, [dict(type='LoadImageFromFile')])
    assert list(dataset.CLASSES) == ['cat', 'dog'] and dataset.class_to_idx == dict(cat=0, dog=1)
    assert dataset.get_gt_labels().tolist() == [0, 0, 0, 1, 1]
    names = [dataset[i]['ori_filename'] for i in range(5)]
    assert names == ['cat/0.png', 'cat/1.png', 'cat/deep/X.PNG', 'dog/0.png', 'dog/1.png']
    assert dataset[4]['img'][0, 0, 0] == 10 and dataset[4]['img_shape'] == (20, 30, 3)


def test_labels_follow_the_named_classes(tmp_path):
    root = write_folders(tmp_path, dict(dog=1, cat=1))
    dataset = ClassFolders(root, classes=('dog', 'cat'))
    assert {
        info['img_info']['filename']: int(info['gt_label'])
        for info in dataset.data_infos
    } == {
        'cat/0.png': 1,
        'dog/0.png': 0
    }


def test_folders_of_other_names_are_the_classes_in_turn(tmp_path):
    root = write_folders(tmp_path, dict(n02=1, n01=1))
    assert ClassFolders(root, classes=('one', 'two')).get_gt_labels().tolist() == [0, 1]
    with pytest.raises(DataError, match='n01, n02 .* none of the 3 classes .one, two, three'):
        ClassFolders(root, classes=('one', 'two', 'three'))


def test_a_folder_that_is_no_class_is_refused(tmp_path):
    root = write_folders(tmp_path, dict(dog=1, cat=1, cow=1))
    with pytest.raises(DataError, match=r'the folders cow of .* none of the 2 classes'):
        ClassFolders(root, classes=('dog', 'cat'))


def test_a_class_without_images_is_told(tmp_path, caplog):
    root = write_folders(tmp_path, dict(dog=1, cat=0))
    with caplog.at_level(logging.WARNING, 'mmdet_ft'):
        dataset = ClassFolders(root, classes=('dog', 'cat', 'cow'))
    assert 'has no image of cat, cow' in caplog.text and len(dataset) == 1


def test_an_empty_or_missing_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match='no image in the class folders'):
        ClassFolders(write_folders(tmp_path / 'empty', dict(dog=0)))
    with pytest.raises(DataError, match='no folder .*correct data_prefix'):
        ClassFolders(str(tmp_path / 'nowhere'))


def test_a_list_of_files_and_labels(tmp_path):
    (tmp_path / 'val.txt').write_text('a b/1.png 2\n\nc.png 0\n')
    dataset = ClassFolders('data', ann_file=str(tmp_path / 'val.txt'), classes=('x', 'y', 'z'))
    assert [info['img_info']['filename'] for info in dataset.data_infos] == ['a b/1.png', 'c.png']
    assert dataset.get_gt_labels().tolist() == [2, 0]
    with pytest.raises(DataError, match='label 2, and there are 2 classes'):
        ClassFolders('data', ann_file=str(tmp_path / 'val.txt'), classes=('x', 'y'))
    (tmp_path / 'val.txt').write_text('c.png 0\nd.png\n')
    with pytest.raises(
            DataError,
            match="val.txt:2: 'd.png' is not a file name, a space and a label.*tools/predict.py"):
        ClassFolders('data', ann_file=str(tmp_path / 'val.txt'))


def test_imagenet_has_its_thousand_classes():
    assert len(ImageNet.CLASSES) == 1000
    assert ImageNet.CLASSES[0] == 'tench, Tinca tinca' and ImageNet.CLASSES[-1].startswith('toilet')
    assert len(FashionMNIST.CLASSES) == 10


def test_the_arguments_decide_what_customdataset_means():
    assert DATASETS.get('CustomDataset') is CustomDataset
    assert DATASETS.get('CustomDataset', dict(ann_file='a.json')) is CustomDataset
    assert DATASETS.get('CustomDataset', dict(data_prefix='a')) is ClassFolders


# -------------------------------------------------------------------------------- wrappers, batches


def test_wrappers_take_class_folders(tmp_path):
    cfg = dict(
        type='CustomDataset',
        data_prefix=write_folders(tmp_path, dict(dog=1, cat=9)),
        pipeline=[dict(type='LoadImageFromFile')])
    assert len(build_dataset(dict(type='RepeatDataset', times=3, dataset=cfg))) == 30
    balanced = build_dataset(dict(type='ClassBalancedDataset', oversample_thr=.4, dataset=cfg))
    labels = [balanced.get_cat_ids(i)[0] for i in range(len(balanced))]
    assert labels.count(0) == 9 and labels.count(1) == 2  # ceil(sqrt(.4 / .1))
    joined = build_dataset([cfg, cfg])
    assert len(joined) == 20 and joined[19]['gt_label'] == 1
    scores = [np.eye(2)[joined.get_cat_ids(i)[0]] for i in range(20)]
    values = joined.evaluate(scores, logger='silent')
    assert values['0_accuracy_top-1'] == values['1_accuracy_top-1'] == 100


def test_a_batch_has_labels_and_uint8_images(tmp_path):
    splits, _ = write_mnist(tmp_path)
    dataset = MNIST(str(tmp_path), PIPELINE, check_md5=False)
    batch = collate([dataset[i] for i in range(4)])
    assert isinstance(batch, Batch) and isinstance(batch.gt, ClassTruth)
    assert batch.gt.labels.tolist() == splits[0][1][:4].tolist()
    assert batch.gt.labels.dtype == torch.int64 and batch.images.dtype == torch.uint8
    assert batch.images.shape == (4, 1, 28, 28) and batch.mean.tolist() == [[10.]] * 4
    view, = collate([{key: dataset[0][key] for key in ('img', 'img_metas', 'img_mean', 'img_std')}])
    assert view.gt is None


def test_soft_labels_stay_rows():
    sample = dict(
        img=torch.zeros(3, 4, 4),
        img_metas=dict(img_shape=(4, 4, 3)),
        gt_label=torch.tensor([.2, .8]))
    assert collate([sample, sample]).gt.labels.shape == (2, 2)


def test_a_batch_is_drawn_as_its_samples_are_and_leaves_the_generators_alone(tmp_path):
    write_mnist(tmp_path)
    pipeline = [dict(type='RandomCrop', size=28, padding=4), dict(type='RandomFlip', flip_prob=.5)]
    dataset = MNIST(str(tmp_path), [*pipeline, *PIPELINE], check_md5=False)
    loader = build_dataloader(dataset, 4, 0, dist=False, seed=3)
    np.random.seed(0)
    expected = np.random.rand()
    np.random.seed(0)
    batches = list(loader)
    assert np.random.rand() == expected
    rows = {}
    for batch in batches:
        for meta, image in zip(batch.metas, batch.images):
            rows[meta['ori_filename']] = image
    for index in range(12):
        sample = loader.dataset[index]
        assert torch.equal(rows[sample['img_metas']['ori_filename']], sample['img'])


def test_an_epoch_has_every_image_once_and_the_last_batch_what_is_left(tmp_path):
    write_mnist(tmp_path)
    dataset = MNIST(str(tmp_path), PIPELINE, check_md5=False)
    for whole in (dataset, build_dataset(dict(type='RepeatDataset', times=1, dataset=dataset))):
        loader = build_dataloader(whole, 5, 0, dist=False, seed=3)
        batches = [[meta['ori_filename'] for meta in batch.metas] for batch in loader]
        assert [len(batch) for batch in batches] == [5, 5, 2] and len(loader) == 3
        assert len({name for batch in batches for name in batch}) == 12
    alone, = build_dataloader(dataset, 32, 0, dist=False, seed=3)
    assert len(alone.metas) == 12
    by_iterations = build_dataloader(
        dataset, 5, 0, dist=False, seed=3, runner_type='IterBasedRunner')
    assert [len(batch.metas) for batch in by_iterations] == [5, 5, 2]
    skipping = build_dataloader(dataset, 5, 0, dist=False, seed=3, skip_bad_images=True)
    assert sum(len(batch.metas) for batch in skipping) == 12


def test_evaluate_takes_some_of_the_images(tmp_path):
    _, (_, labels) = write_mnist(tmp_path)[0]
    dataset = MNIST(str(tmp_path), [], check_md5=False, test_mode=True)
    right = [np.eye(10)[label] for label in labels[[1, 3]]]
    values = dataset.evaluate(right, metric_options=dict(topk=(1, )), indices=[1, 3])
    assert values == {'accuracy_top-1': 100.}
    items = dataset.result_items(right)
    assert items['pred_label'].tolist() == labels[[1, 3]].tolist()
    assert items['pred_class'][0] == dataset.CLASSES[labels[1]]
