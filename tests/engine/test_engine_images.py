"""What is seen of the image files before a training and a test, and what is refused."""
import base64
import json
import logging
import re
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from mmdet_ft.config.config import Config
from mmdet_ft.datasets.checks import images
from mmdet_ft.datasets.checks.html import page
from mmdet_ft.datasets.checks.images import Loading, inspect_image, read_loading, scan
from mmdet_ft.datasets.checks.split import split_of
from mmdet_ft.datasets.classification.folder import ClassFolders
from mmdet_ft.datasets.detection.coco import CocoDataset
from mmdet_ft.datasets.detection.custom import CustomDataset
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.loading.collate import collate, group_by_size
from mmdet_ft.datasets.loading.loader import build_dataloader
from mmdet_ft.datasets.pipelines.shared import loading
from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.run_check.data import REFUSED, check_data, check_image_files, log_data_report
from mmdet_ft.engine.settings.read import read_data, read_test_settings

WIDTH, HEIGHT, NUM = 96, 64, 12
PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True)
]


class World:
    """Images with two boxes each and a COCO json, in a folder."""

    def __init__(self, folder):
        self.folder = folder
        rng = np.random.default_rng(0)
        self.content = dict(images=[], annotations=[], categories=[dict(id=1, name='cat')])
        for index in range(NUM):
            picture = cv2.resize(rng.integers(0, 255, (8, 12, 3), dtype=np.uint8), (WIDTH, HEIGHT))
            cv2.imwrite(str(self.path(index)), picture)
            self.content['images'].append(
                dict(id=index + 1, file_name=f'{index}.jpg', width=WIDTH, height=HEIGHT))
            for number, box in enumerate(([4, 6, 20, 30], [70, 20, 20,
                                                           30])):  # the second leaves 64 x 96
                x, y, w, h = box
                self.content['annotations'].append(
                    dict(
                        id=10 * index + number,
                        image_id=index + 1,
                        category_id=1,
                        bbox=box,
                        area=w * h,
                        iscrowd=0,
                        segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]]))

    def path(self, index):
        return self.folder / f'{index}.jpg'

    def turn(self, index, orientation=6, exchange=True):
        """Store the picture lying, with an entry that turns it upright; `exchange` the listed size."""
        exif = Image.Exif()
        exif[0x112] = orientation
        lying = Image.open(self.path(index)).transpose(Image.Transpose.ROTATE_90)
        lying.save(self.path(index), exif=exif)
        if exchange:
            self.content['images'][index].update(width=HEIGHT, height=WIDTH)

    def dataset(self, **settings):
        path = self.folder / 'a.json'
        path.write_text(json.dumps(self.content))
        return CocoDataset(
            **{
                **dict(
                    ann_file=str(path),
                    pipeline=PIPELINE,
                    classes=['cat'],
                    img_prefix=str(self.folder)),
                **settings
            })

    def config(self, **settings):
        part = dict(
            type='CocoDataset',
            ann_file=str(self.folder / 'a.json'),
            classes=['cat'],
            img_prefix=str(self.folder),
            pipeline=PIPELINE)
        return Config(dict(data=dict(train=part, val=part, test=part, **settings)))

    def refusals(self, **settings):
        """What training and test say, and check_data's defects of images."""
        dataset = self.dataset()
        texts = []
        read = read_test_settings(self.config(**settings))
        for check, of_check, split in ((log_data_report, read, 'train'), (check_image_files,
                                                                          read.data, 'test')):
            with pytest.raises(UserError) as error:
                check(of_check, {split: dataset}, logging.getLogger('mmdet_ft'))
            texts.append(str(error.value))
        report = check_data(self.config(), ['train'], workers=0)
        return texts, [problem for problem in report.defects if problem.kind in REFUSED]


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def tell(world, **settings):
    """What training says, where it goes on."""
    records = []
    logger = logging.Logger('test')
    logger.addHandler(
        type('', (logging.Handler, ), dict(emit=lambda self, record: records.append(record)))())
    log_data_report(
        read_test_settings(world.config(**settings)), {'train': world.dataset()}, logger)
    return records[-1].levelname, records[-1].getMessage()


def test_all_files_are_looked_at_and_the_report_says_so(world):
    level, text = tell(world)
    assert level == 'INFO'
    assert 'no defect found in train; checked: the annotations (' in text
    assert '), headers and last bytes of all 12 image files' in text


def test_a_sample_of_very_many_files_is_called_one(world, monkeypatch):
    monkeypatch.setattr(images, 'MOST_HEADS', 5)
    assert f'headers and last bytes of 5 of {NUM} image files' in tell(world)[1]
    split = split_of(world.dataset(), 'train')
    assert [index for index, _ in scan(split, Loading())] == [0, 2, 5, 8, 11]


def test_slow_storage_is_read_by_threads_with_the_same_looks(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], 'NUM', 180)
    world = World(tmp_path)
    split = split_of(world.dataset(), 'train')
    expected = scan(split, Loading())
    monkeypatch.setattr(images, 'SLOW', 0)
    assert scan(split, Loading()) == expected and len(expected) == NUM


@pytest.mark.parametrize('index', [0, 7, NUM - 1])
def test_one_image_of_another_size_is_refused_with_its_annotations(world, index):
    picture = cv2.imread(str(world.path(index)))
    cv2.imwrite(str(world.path(index)), cv2.resize(picture, (WIDTH // 2, HEIGHT // 2)))
    texts, defects = world.refusals()
    for text in texts:
        assert f'{world.path(index)}: annotated as 96 x 64 (width x height), it is 48 x 32' in text
        assert f'annotation {10 * index}, annotation {10 * index + 1}' in text
        assert 'scaled by 0.5' in text and 'scale boxes and masks by the same factor' in text
    assert [problem.kind
            for problem in defects] == ['image size differs'] and defects[0].fix in texts[0]
    with pytest.raises(DataError, match=rf'{index}\.jpg.*is listed as 96 x 64'):
        world.dataset()[index]


def test_exchanged_width_and_height_are_told_as_such(world):
    for index in (2, 3):
        world.content['images'][index].update(width=HEIGHT, height=WIDTH)
    texts, defects = world.refusals()
    assert all('width and height are exchanged; the boxes are of the picture as it is' in text
               for text in texts)
    assert [(problem.kind, problem.count)
            for problem in defects] == [('width and height exchanged', 2)]
    assert defects[0].fix == 'exchange width and height of these images in the annotation file'


def test_a_photograph_listed_upright_is_right(world):
    world.turn(4, exchange=False)
    assert tell(world)[0] == 'INFO'
    assert world.dataset()[4]['img'].shape == (HEIGHT, WIDTH, 3)


def test_a_photograph_listed_as_stored_with_boxes_upright_wants_its_size_exchanged(world):
    world.turn(4)
    texts, defects = world.refusals()
    for text in texts:
        assert 'the boxes are of the turned picture' in text and 'exiftool' not in text and 'turn the boxes' not in text
    assert [problem.kind for problem in defects] == ['width and height exchanged']
    assert 'exchange width and height' in defects[0].fix
    all_defects = check_data(world.config(), ['train'], workers=0).defects
    assert len(all_defects) == 1  # no box is told to be outside, as if it had to be cut
    world.content['images'][4].update(width=WIDTH, height=HEIGHT)  # as advised
    assert tell(world)[0] == 'INFO'
    np.testing.assert_array_equal(world.dataset()[4]['gt_bboxes'],
                                  [[4, 6, 24, 36], [70, 20, 90, 50]])


def test_a_photograph_annotated_lying_wants_its_entry_removed(world):
    picture = Image.open(world.path(4))
    exif = Image.Exif()
    exif[0x112] = 6
    picture.save(world.path(4), exif=exif)
    texts, defects = world.refusals()
    assert all('annotated lying' in text and 'exiftool -Orientation= -n FILE' in text
               for text in texts)
    assert [problem.kind for problem in defects] == ['image turned by EXIF']
    as_stored = [{**PIPELINE[0], 'color_type': 'color_ignore_orientation'}, PIPELINE[1]]
    dataset = world.dataset(pipeline=as_stored)  # as advised
    log_data_report(
        read_test_settings(world.config()), {'train': dataset}, logging.getLogger('mmdet_ft'))
    assert dataset[4]['img'].shape == (HEIGHT, WIDTH, 3)


def test_the_report_shows_the_boxes_on_a_picture_of_another_size(world):
    world.turn(4)
    world.content['annotations'] = [
        item for item in world.content['annotations'] if item['bbox'][0] < 20
    ]
    world.dataset()
    report = check_data(world.config(), ['train'], workers=0)
    problem, = report.defects
    assert '--html report.html` shows the boxes' in problem.fix and problem.examples[0].boxes == [[
        4, 6, 24, 36
    ]]
    shown = page(report._replace(splits=[]), 'title')
    picture = cv2.imdecode(
        np.frombuffer(base64.b64decode(re.search(r'base64,([^"]+)', shown).group(1)), np.uint8), 1)
    assert picture.shape == (HEIGHT, WIDTH, 3)
    drawn = np.abs(picture.astype(int) - cv2.imread(str(world.path(4)))).mean(axis=2)
    assert drawn[6:36, 4].mean() > 20 > 3 * drawn[6:36, 50:].mean()  # the left edge of the box


def test_images_whose_boxes_do_not_tell_follow_those_that_do(world):
    world.turn(4)
    world.turn(5)
    for annotation in world.content['annotations']:
        if annotation['image_id'] == 6:
            annotation['bbox'][:2] = [2, 2]
    _, defects = world.refusals()
    assert [(problem.kind, problem.count)
            for problem in defects] == [('width and height exchanged', 2)]


def test_objects_that_a_wrong_size_would_drop_are_told_of(world):
    world.turn(4)
    world.content['annotations'] = [
        item for item in world.content['annotations']
        if item['image_id'] != 5 or item['bbox'][0] > HEIGHT
    ]
    texts, _ = world.refusals()  # all that is left of the image lies outside of the listed size
    assert all('4.jpg' in text for text in texts)


@pytest.mark.parametrize('size', [(HEIGHT, WIDTH), (60, 40)])
def test_boxes_of_other_files_are_not_dropped_for_a_wrong_size(world, size):
    ann = dict(bboxes=[[70, 20, 90, 50]], labels=[0])
    records = [
        dict(filename='0.jpg', width=WIDTH, height=HEIGHT, ann=ann),
        dict(filename='1.jpg', width=size[0], height=size[1], ann=ann)
    ]
    path = world.folder / 'middle.json'
    path.write_text(json.dumps(records))
    words = f"middle.json: image '1.jpg' is annotated as {size[0]} x {size[1]} .*it is 96 x 64"
    with pytest.raises(DataError, match=words):
        CustomDataset(str(path), PIPELINE, ['cat'], img_prefix=str(world.folder))
    records[1].update(width=WIDTH, height=HEIGHT)
    records[0]['ann'] = dict(
        bboxes=[[70, 20, 90, 50], [97, 2, 120, 30]], labels=[0, 0])  # wholly outside in truth
    path.write_text(json.dumps(records))
    dataset = CustomDataset(str(path), PIPELINE, ['cat'], img_prefix=str(world.folder))
    assert [len(dataset.get_ann_info(index)['bboxes']) for index in (0, 1)] == [1, 1]


def test_images_that_no_one_uses_stop_no_training(world):
    world.content['annotations'] = [
        item for item in world.content['annotations'] if item['image_id'] != 5
    ]
    world.content['images'][4].update(width=HEIGHT, height=WIDTH)
    assert 'width and height exchanged (train, 1)' in tell(world)[1]


@pytest.mark.parametrize('spoil, words', [
    (lambda path: path.unlink(), "there is no image '{path}'"),
    (lambda path: path.write_bytes(path.read_bytes()[:700]),
     "cannot decode the image '{path}': .*cut off"),
    (lambda path: path.write_bytes(b'<html>404</html>'),
     "cannot decode the image '{path}': .*page of the web"),
    (lambda path: path.write_bytes(b''), "cannot decode the image '{path}': .*empty"),
])
def test_a_bad_image_is_refused_unless_bad_images_are_skipped(world, spoil, words):
    spoil(world.path(9))
    texts, defects = world.refusals()
    for text in texts:
        assert re.match(words.format(path=world.path(9)), text), text
    assert 'data = dict(train_dataloader=dict(skip_bad_images=True))' in texts[0]
    assert 'skip_bad_images' not in texts[1]  # which is for training
    assert len(defects) == 1
    level, text = tell(world, train_dataloader=dict(skip_bad_images=True))
    assert level == 'WARNING' and 'defect: image' in text


def test_a_jpeg_without_its_last_bytes_is_told_once_and_used(world, monkeypatch, caplog):
    monkeypatch.setattr(loading, 'told_as_cut', set())
    monkeypatch.setattr(images, 'told_as_cut', loading.told_as_cut)
    path = world.path(9)
    path.write_bytes(path.read_bytes()[:-8])
    level, text = tell(world)
    assert level == 'WARNING' and 'to look at: image without its end (train, 1)' in text and str(
        path) in text
    with caplog.at_level(logging.WARNING):
        assert world.dataset()[9]['img'].shape == (HEIGHT, WIDTH, 3)
    assert 'lacks its last bytes' not in caplog.text  # it was told
    report = check_data(world.config(), ['train'], workers=0)
    assert not report.defects and [note.kind
                                   for note in report.notes][:1] == ['image without its end']


@pytest.mark.parametrize('bits, kind, is_defect', [(10, 'values in the lower bits', True),
                                                   (12, 'values in the lower bits', True),
                                                   (14, 'values in the lower bits', False),
                                                   (16, 'images of 16 bit', False)])
@pytest.mark.parametrize('ending', ['png', 'tif'])
def test_values_in_the_lower_bits_of_16_are_told_with_their_factor(world, bits, kind, is_defect,
                                                                   ending):
    for index in range(NUM):
        picture = cv2.imread(str(world.path(index))).astype(np.uint16)
        cv2.imwrite(str(world.folder / f'{index}.{ending}'), picture << (bits - 8))
        world.content['images'][index]['file_name'] = f'{index}.{ending}'
    level, text = tell(world)
    assert f'{"defect" if is_defect else "to look at"}: {kind} (train, {NUM})' in text
    assert (level == 'WARNING') == is_defect
    if bits < 16:
        assert f'{bits} bit' in text and f'cv2.IMREAD_UNCHANGED) * {1 << (16 - bits)})' in text
    found = check_data(world.config(), ['train'], workers=0)
    assert [(problem.kind, problem.is_defect)
            for problem in found.problems][:1] == [(kind, is_defect)]


@pytest.mark.parametrize('written, words', [
    ('images/{}.jpg',
     "file_name 'images/0.jpg' -> '0.jpg' is there (and 11 alike: other folders before it)"),
    ('{}.JPG', "file_name '0.JPG' -> '0.jpg' is there (and 11 alike: another case)"),
    ('/data/upload/1/{}.jpg', "'/data/upload/1/0.jpg' -> '0.jpg' is there"),
    ('http://localhost:8080/data/{}.jpg', "'http://localhost:8080/data/0.jpg' -> '0.jpg' is there"),
    ('%2e/{}.jpg', "file_name '%2e/0.jpg' -> '0.jpg' is there"),
])
def test_missing_images_that_are_there_under_another_name_are_named(world, written, words):
    for index, image in enumerate(world.content['images']):
        image['file_name'] = written.format(index)
    texts, defects = world.refusals()
    assert all(words in text for text in texts), texts
    assert words in defects[0].fix and defects[0].count == NUM
    with pytest.raises(FileNotFoundError, match="0.jpg' is there"):
        world.dataset()[0]


def test_a_prefix_one_folder_too_high_is_told_as_the_prefix(world):
    (world.folder / 'below').mkdir()
    for index in range(NUM):
        world.path(index).rename(world.folder / 'below' / f'{index}.jpg')
    texts, _ = world.refusals()
    assert all(f"'below/0.jpg' is there: write img_prefix='{world.folder}/below'" in text
               for text in texts)


def test_a_folder_that_is_not_there_is_named_with_its_neighbour(world):
    dataset = world.dataset(
        img_prefix=str(world.folder.parent / (world.folder.name + 'x') / 'train'))
    with pytest.raises(
            UserError,
            match=f"there is no folder '{world.folder}x'; did you mean '{world.folder}'"):
        log_data_report(
            read_test_settings(world.config()), {'train': dataset}, logging.getLogger('mmdet_ft'))


def test_backslashes_are_read_as_slashes_and_told_in_one_line(world):
    (world.folder / 'below').mkdir()
    for index, image in enumerate(world.content['images']):
        world.path(index).rename(world.folder / 'below' / f'{index}.jpg')
        image['file_name'] = f'below\\{index}.jpg'
    level, text = tell(world)
    assert level == 'INFO' and f'to look at: image name in another spelling (train, {NUM})' in text
    assert world.dataset()[0]['filename'] == str(world.folder / 'below' / '0.jpg')
    assert not check_data(world.config(), ['train'], workers=0).defects


def test_what_another_loader_reads_is_only_looked_for(world):

    def own(results):
        return results

    world.path(3).write_bytes(b'of a kind of our own')
    world.content['images'][4].update(width=70, height=80)
    dataset = world.dataset(pipeline=[own])
    log_data_report(
        read_test_settings(world.config()), {'train': dataset}, logging.getLogger('mmdet_ft'))
    world.path(3).unlink()
    with pytest.raises(UserError, match='there is no image'):
        log_data_report(
            read_test_settings(world.config()), {'train': dataset}, logging.getLogger('mmdet_ft'))
    assert read_loading([own]) == Loading(is_known=False) and read_loading([]) == Loading()
    assert read_loading([dict(type='LoadImageFromFile',
                              color_type='unchanged')]).color_type == 'unchanged'


def test_a_head_that_misleads_is_not_believed(world, monkeypatch):
    real = images.read_head
    monkeypatch.setattr(
        images, 'read_head', lambda source: real(source)._replace(width=5)
        if isinstance(source, str) else real(source))
    assert tell(world)[0] == 'INFO'


def test_a_picture_too_large_for_opencv_is_refused_with_the_remedy(world):
    from tests.datasets.test_image_files import png_head
    world.path(3).write_bytes(png_head(40000, 40000))
    texts, _ = world.refusals()
    assert all('40000 x 40000 pixels' in text and 'OPENCV_IO_MAX_IMAGE_PIXELS=' in text
               for text in texts)
    assert inspect_image(str(world.path(3))).error.startswith('it has 40000 x 40000')


# ------------------------------------------------------------- images of a classifier


def class_folders(folder, pipeline, sizes=((40, 30), (60, 45), (40, 30), (80, 30))):
    for index, size in enumerate(sizes):
        path = folder / 'data' / ('cat', 'dog')[index % 2] / f'{index}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((*size[::-1], 3), 90, np.uint8))
    return ClassFolders(str(folder / 'data'), pipeline)


def steps(*more, keys=('img', 'gt_label')):
    return [
        dict(type='LoadImageFromFile'), *more,
        dict(type='ImageToTensor', keys=['img']),
        dict(type='ToTensor', keys=['gt_label']),
        dict(type='Collect', keys=list(keys))
    ]


@pytest.mark.parametrize('keys', [('img', 'gt_label'), ('img', )])
def test_unequal_images_of_a_classifier_are_no_batch(tmp_path, keys):
    dataset = class_folders(tmp_path, steps(keys=keys))
    with pytest.raises(
            DataError, match=r'40 x 30 pixels.*60 x 45.*CenterCrop.*Resize.*samples_per_gpu=1'):
        list(build_dataloader(dataset, 4, 0, dist=False, shuffle=False))
    assert len(list(build_dataloader(dataset, 1, 0, dist=False, shuffle=False))) == 4
    equal = class_folders(tmp_path, steps(dict(type='Resize', size=(32, 32)), keys=keys))
    batch, = build_dataloader(equal, 4, 0, dist=False, shuffle=False)
    batch = batch if keys[1:] else batch[0]
    assert batch.images.shape == (4, 3, 32, 32)


@pytest.mark.parametrize('split', ['train', 'test'])
def test_unequal_images_of_a_classifier_are_found_before_the_start(tmp_path, split):
    check, read = (log_data_report, read_test_settings) if split == 'train' else (check_image_files,
                                                                                  read_data)
    logger, config = logging.getLogger('mmdet_ft'), Config(
        dict(data=dict(samples_per_gpu=4, train={}, test={}), runner=dict(type='EpochBasedRunner')))
    for more, fits in (((), False), ((dict(type='Resize', size=(32, -1)), ), False),
                       ((dict(type='Resize', size=(32, -1)), dict(type='CenterCrop', crop_size=24)),
                        True), ((dict(type='Resize', size=(32, 32)), ), True)):
        dataset = class_folders(tmp_path, steps(*more))
        if fits:
            check(read(config), {split: dataset}, logger)
        else:
            with pytest.raises(
                    UserError,
                    match=rf'data\.{split}\.pipeline: images of unequal size.*CenterCrop'):
                check(read(config), {split: dataset}, logger)
    config.data.samples_per_gpu = 1
    check(read(config), {split: class_folders(tmp_path, steps())}, logger)


def test_samples_are_put_together_by_size():
    samples = [dict(img=np.zeros((3, *size)))
               for size in ((4, 5), (5, 4), (4, 5))] + [dict(img=[np.zeros((3, 5, 4))])]
    assert group_by_size(samples) == [[0, 2], [1, 3]]


def test_a_detectors_images_are_padded_as_ever(world):
    pipeline = [
        *PIPELINE,
        dict(type='DefaultFormatBundle'),
        dict(type='Collect', keys=['img', 'gt_bboxes', 'gt_labels'])
    ]
    cv2.imwrite(str(world.path(0)), np.zeros((HEIGHT - 10, WIDTH - 4, 3), np.uint8))
    world.content['images'][0].update(width=WIDTH - 4, height=HEIGHT - 10)
    dataset = world.dataset(pipeline=pipeline)
    assert collate([dataset[0], dataset[1]]).images.shape[2:] == (HEIGHT, WIDTH)
