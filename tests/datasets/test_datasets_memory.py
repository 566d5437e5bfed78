"""Annotations are in memory once, however many workers read them."""
import json
import mmap
import multiprocessing
import os
import pickle
import platform

import numpy as np
import pytest

from mmdet_ft.datasets.annotations.packed import PackedList
from mmdet_ft.datasets.detection.coco import CocoDataset
from mmdet_ft.processes import keep_freed_memory

linux = pytest.mark.skipif(not os.path.exists('/proc/self/smaps_rollup'), reason='Linux tells')


def private_megabytes():
    with open('/proc/self/smaps_rollup') as file:
        values = {line.split(':')[0]: int(line.split()[1]) for line in list(file)[1:]}
    return (values['Private_Clean'] + values['Private_Dirty']) / 1024


@linux
def test_a_forked_worker_copies_no_annotations_while_it_reads_them(tmp_path):
    rng = np.random.default_rng(0)
    images = [dict(id=7 * i, file_name=f'{i}.jpg', width=640, height=480) for i in range(4000)]
    annotations = [
        dict(
            id=id_,
            image_id=7 * (id_ % 4000),
            category_id=1,
            bbox=box,
            area=100,
            iscrowd=0,
            segmentation=[box * 4])
        for id_, box in enumerate(rng.integers(1, 200, (100000, 4)).tolist())
    ]
    path = tmp_path / 'annotations.json'
    path.write_text(
        json.dumps(
            dict(images=images, annotations=annotations, categories=[dict(id=1, name='thing')])))
    size = path.stat().st_size / 1e6
    del images, annotations
    dataset = CocoDataset(ann_file=str(path), pipeline=[], classes=('thing', ))
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        for index in range(50):
            dataset.get_ann_info(index)
        before = private_megabytes()
        number = sum(len(dataset.get_ann_info(index)['labels']) for index in range(len(dataset)))
        os.write(write, f'{number} {private_megabytes() - before}'.encode())
        os._exit(0)
    os.waitpid(child, 0)
    number, grown = os.read(read, 100).decode().split()
    assert int(number) == 100000
    assert float(grown) < size / 5, f'{grown} MB more for a file of {size} MB'


def report(items, queue):
    """What a spawned worker finds: sums of the items, and whether their memory is its own."""
    sums = [int(items[index].sum()) for index in range(len(items))]
    data = items._data
    queue.put((sums, data.flags.owndata or not isinstance(data.base.base.obj, mmap.mmap)))


@linux
def test_a_spawned_worker_maps_the_annotations():
    arrays = [np.arange(start, start + 10000) for start in range(20)]
    context = multiprocessing.get_context('spawn')
    queue = context.Queue()
    worker = context.Process(target=report, args=(PackedList(arrays), queue))
    worker.start()
    assert queue.get(timeout=120) == ([int(array.sum()) for array in arrays], False)
    worker.join()


def test_a_file_of_a_pickle_holds_the_annotations_themselves():
    items = pickle.loads(pickle.dumps(PackedList([np.arange(50000), 'x'])))
    assert items[1] == 'x' and items[0].sum() == np.arange(50000).sum()


def pages_taken_again():
    """Page faults while arrays as large as images come and go, once they have been there."""
    import resource
    keep_freed_memory()
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        arrays = [np.ones(2_600_000, dtype=np.uint8) for _ in range(6)]
        del arrays
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='it asks glibc')
def test_a_worker_takes_no_new_pages_for_every_image():
    with multiprocessing.get_context('spawn').Pool(1) as pool:
        assert pool.apply(pages_taken_again) < 100  # of 3,800
