"""Masks in PNG files become a COCO json: every layout, exact areas, and what is told of masks that do not fit."""
import json
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_api
import pytest
from PIL import Image

from mmdet_ft.datasets.build import build_dataset
from .test_dataset_converters import refused, write_turned

WIDTH, HEIGHT = 40, 30
OBJECTS = [(2, 3, 8, 9), (20, 10, 30, 20), (11, 3, 19, 9)]  # x1 y1 x2 y2


def image(path: Path, mode='RGB', size=(WIDTH, HEIGHT)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, 90 if mode == 'L' else (90, ) * len(mode)).save(path)


def bitmap(*numbers, value=255, size=(HEIGHT, WIDTH), dtype=np.uint8):
    values = np.zeros(size, dtype)
    for number in numbers:
        x1, y1, x2, y2 = OBJECTS[number]
        values[y1:y2, x1:x2] = value if not callable(value) else value(number)
    return values


def write(path: Path, values, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **settings)


def areas(number):
    x1, y1, x2, y2 = OBJECTS[number]
    return (x2 - x1) * (y2 - y1)


def run(convert, capsys, root, *words):
    """(image name -> sorted (category, x, y, width, height, area), what was said)."""
    out = root.parent / 'out.json'
    convert('masks_to_coco', root, '--out', out, '--force', *words)
    content = json.loads(out.read_text())
    names = {item['id']: item['name'] for item in content['categories']}
    found = {item['file_name']: [] for item in content['images']}
    of_id = {item['id']: item['file_name'] for item in content['images']}
    for item in content['annotations']:
        found[of_id[item['image_id']]].append(
            (names[item['category_id']], *item['bbox'], item['area']))
        if isinstance(item['segmentation'], dict):
            assert mask_api.area(item['segmentation']) == item['area']
    return {name: sorted(rows) for name, rows in found.items()}, capsys.readouterr().out


def row(number, name='object'):
    x1, y1, x2, y2 = OBJECTS[number]
    return (name, x1, y1, x2 - x1, y2 - y1, areas(number))


def test_a_folder_an_image_and_a_file_a_nucleus(convert, tmp_path, capsys):
    root = tmp_path / 'nuclei'
    for name, numbers in (('a1', (0, 1)), ('b2', (1, 2)), ('c3', ())):
        image(root / name / 'images' / f'{name}.png', 'RGBA')
        for number in numbers:
            write(root / name / 'masks' / f'{number}.png', bitmap(number))
    write(root / 'a1/masks/empty.png', bitmap())
    found, said = run(convert, capsys, root, '--class-name', 'nucleus')
    assert found == {
        'a1/images/a1.png': [row(0, 'nucleus'), row(1, 'nucleus')],
        'b2/images/b2.png': sorted([row(1, 'nucleus'), row(2, 'nucleus')]),
        'c3/images/c3.png': []
    }
    assert '1 masks without a pixel' in said and '1 images without a mask' in said
    assert "classes = ('nucleus',)" in said and '--val 0.2' in said
    dataset = build_dataset(
        dict(
            type='CocoDataset',
            ann_file=str(tmp_path / 'out.json'),
            img_prefix=str(root),
            classes=('nucleus', ),
            pipeline=[],
            filter_empty_gt=False,
            test_mode=True))
    assert len(dataset) == 3 and (root / dataset.data_infos[0]['filename']).is_file()


@pytest.mark.parametrize('layout', ['{}_mask_{}.png', '{}-{}.png', '{}/{}.png', '{}.{}.tif'])
def test_files_named_after_the_image_hold_one_object(layout, convert, tmp_path, capsys):
    root = tmp_path / 'a'
    for name in ('x', 'x_1'):  # one begins with the other
        image(root / 'images' / f'{name}.jpg')
    for number in (0, 1):
        write(root / 'masks' / layout.format('x', number + 7), bitmap(number))
        write(root / 'masks' / layout.format('x_1', number + 7), bitmap(2 - number))
    write(root / 'masks/other.png', bitmap(0))
    found, said = run(convert, capsys, root)
    assert found == {'images/x.jpg': [row(0), row(1)], 'images/x_1.jpg': sorted([row(1), row(2)])}
    assert '1 masks without an image of their name: masks/other.png' in said


def test_a_file_for_all_objects_has_a_value_for_each(convert, tmp_path, capsys):
    root = tmp_path / 'a'
    image(root / 'images/x.jpg')
    image(root / 'images/y.jpg')
    values = bitmap(0, 1, value=lambda number: 300 * number + 5, dtype=np.uint16)
    values[25:28, 30:35] = 5  # of one object in two parts
    write(root / 'labels/x.png', values)
    colours = np.stack([bitmap(0, value=9), bitmap(1, value=9), bitmap(2, value=200)], -1)
    write(root / 'labels/y.png', colours)
    found, said = run(convert, capsys, root)
    assert found['images/y.jpg'] == sorted([row(0), row(1), row(2)])
    assert found['images/x.jpg'] == [('object', 2, 3, 33, 25, areas(0) + 15), row(1)]


def test_one_value_everywhere_means_connected_regions(convert, tmp_path, capsys):
    root = tmp_path / 'a'
    for name in 'xy':
        image(root / 'images' / f'{name}.jpg')
        write(root / 'masks' / f'{name}.png', bitmap(0, 1, 2))
    found, said = run(convert, capsys, root)
    assert found['images/x.jpg'] == sorted([row(0), row(1), row(2)])
    assert 'each connected region is an object' in said


def test_values_may_be_classes(convert, tmp_path, capsys):
    root, masks = tmp_path / 'a', tmp_path / 'm'
    image(root / 'x.jpg')
    write(masks / 'x.png', bitmap(0, 1, 2, value=lambda number: (4, 2, 9)[number]))
    found, said = run(convert, capsys, root, '--masks', masks, '--classes', 'dog=4', 'cat=2')
    assert found == {'x.jpg': sorted([row(0, 'dog'), row(1, 'cat')])}
    assert 'values of no class: 9 (in 1 masks)' in said and "classes = ('dog', 'cat')" in said
    for bad in ('dog', 'dog=0', 'dog=x', '=3'):
        refused(capsys, 'write NAME=VALUE', convert, 'masks_to_coco', root, '--masks', masks,
                '--out', tmp_path / 'o.json', '--classes', bad)


def test_borders_of_palette_files_are_no_object(convert, tmp_path, capsys):
    root, masks = tmp_path / 'a', tmp_path / 'm'
    image(root / 'x.jpg')
    values = bitmap(0, 1, value=lambda number: number + 1)
    values[28] = 255
    picture = Image.fromarray(values, 'P')
    picture.putpalette([value for index in range(256) for value in (index, 0, 0)])
    masks.mkdir()
    picture.save(masks / 'x.png')
    found, said = run(convert, capsys, root, '--masks', masks)
    assert found == {'x.jpg': [row(0), row(1)]} and 'borders of value 255' in said


def test_transparent_and_soft_masks_are_read(convert, tmp_path, capsys):
    root = tmp_path / 'a'
    image(root / 'x/images/x.png')
    alpha = np.dstack([bitmap()] * 3 + [bitmap(0)])
    write(root / 'x/masks/0.png', alpha)
    soft = bitmap(1)
    soft[9, 20:30] = 90
    soft[10, 20:30] = 200
    write(root / 'x/masks/1.png', soft)
    write(root / 'x/masks/2.png', bitmap(2) > 0)  # of one bit
    found, said = run(convert, capsys, root)
    assert found == {
        'x/images/x.png': sorted([row(0), row(1), row(2)])
    } and '1 masks with soft borders' in said


def test_the_mask_of_a_stored_photo_is_turned_with_it(convert, tmp_path, capsys):
    root = tmp_path / 'a'
    (root / 'x/images').mkdir(parents=True)
    write_turned(root / 'x/images/x.jpg')  # loaded as 160 x 120
    values = np.zeros((160, 120), np.uint8)
    values[5:15,
           100:110] = 255  # stored: x 100, y 5; turned clockwise: x 160 - ..., that is 145 to 155
    write(root / 'x/masks/0.png', values)
    found, said = run(convert, capsys, root)
    width = 120 if Image.open(root / 'x/images/x.jpg').size[0] == 120 else 160
    assert width == 120 and found == {'x/images/x.jpg': [('object', 145, 100, 10, 10, 100)]}
    assert '1 masks turned as the EXIF' in said


def test_polygons_keep_the_area_of_the_mask(convert, tmp_path, capsys):
    root = tmp_path / 'a'
    image(root / 'x/images/x.png')
    write(root / 'x/masks/0.png', bitmap(1))
    line = bitmap()
    line[4, 3:9] = 1
    write(root / 'x/masks/1.png', line)
    found, _ = run(convert, capsys, root, '--polygons')
    assert found == {'x/images/x.png': [('object', 3, 4, 6, 1, 6), row(1)]}
    content = json.loads((tmp_path / 'out.json').read_text())
    assert all(len(part) >= 6 for item in content['annotations'] for part in item['segmentation'])


def test_what_does_not_fit_is_named(convert, tmp_path, capsys):
    root = tmp_path / 'a'
    words = ('masks_to_coco', root, '--out', tmp_path / 'o.json')
    refused(capsys, 'there is no folder', convert, *words)
    image(root / 'x/images/x.png')
    write(root / 'x/masks/0.png', bitmap(0, size=(20, 40)))
    refused(capsys, 'x/masks/0.png is 40 x 20, its image 40 x 30. Nothing was written', convert,
            *words)
    (root / 'x/masks/0.png').write_bytes(b'x')
    refused(capsys, 'cannot read the mask', convert, *words)
    other = tmp_path / 'b'
    image(other / 'x.jpg')
    words = ('masks_to_coco', other, '--out', tmp_path / 'o.json')
    refused(capsys, 'name it with --masks', convert, *words)
    (tmp_path / 'm').mkdir()
    refused(capsys, 'there is no mask', convert, *words, '--masks', tmp_path / 'm')
    write(tmp_path / 'm/z.png', bitmap(0))
    refused(capsys, "no mask bears the name of an image", convert, *words, '--masks',
            tmp_path / 'm')
    refused(capsys, 'ends in .json', convert, 'masks_to_coco', other, '--out', other / 'x.jpg',
            '--force')
    assert not (tmp_path / 'o.json').exists()


def test_images_in_folders_take_the_masks_of_the_same_folders(convert, tmp_path, capsys):
    root = tmp_path / 'a'
    for folder, numbers in (('day1', (0, )), ('day2', (0, 1))):
        image(root / 'images' / folder / 'x.png')
        values = bitmap()
        for number in numbers:
            values = np.maximum(values, bitmap(number, value=number + 1))
        write(root / 'masks' / folder / 'x.png', values)
    found, _ = run(convert, capsys, root)
    assert found == {'images/day1/x.png': [row(0)], 'images/day2/x.png': sorted([row(0), row(1)])}


@pytest.mark.parametrize('names', [('p/x.png', 'q/x.png'), ('x.png', 'x.jpg')])
def test_a_mask_that_two_images_could_own_is_refused(convert, tmp_path, capsys, names):
    root = tmp_path / 'a'
    for name in (*names, 'y.png'):
        image(root / 'images' / name)
    write(root / 'masks/x.png', bitmap(0))
    write(root / 'masks/y.png', bitmap(0))
    refused(capsys, 'masks/x.png bears the name of 2 images', convert, 'masks_to_coco', root,
            '--out', tmp_path / 'o.json')


def test_names_are_equal_however_their_accents_are_stored(convert, tmp_path, capsys):
    root = tmp_path / 'a'
    image(root / 'images' / 'zell\u00e9.png')
    write(root / 'masks' / 'zelle\u0301.png', bitmap(0, value=1))
    found, _ = run(convert, capsys, root)
    assert list(found.values()) == [[row(0)]]


def test_labels_written_as_floats_are_read_when_they_are_whole(convert, tmp_path, capsys):
    root = tmp_path / 'a'
    image(root / 'images/x.png')
    values = np.maximum(
        bitmap(0, value=1, dtype=np.float32), bitmap(1, value=70000, dtype=np.float32))
    write(root / 'masks/x.tif', values)
    found, _ = run(convert, capsys, root)
    assert found == {'images/x.png': sorted([row(0), row(1)])}
    write(root / 'masks/x.tif', values + np.float32(.5))
    refused(capsys, 'are no whole numbers', convert, 'masks_to_coco', root, '--out',
            tmp_path / 'o.json')


def test_pages_after_the_first_are_not_lost_in_silence(convert, tmp_path, capsys):
    root = tmp_path / 'a'
    image(root / 'images/x.png')
    write(
        root / 'masks/x.tif', bitmap(0), save_all=True, append_images=[Image.fromarray(bitmap(1))])
    refused(capsys, 'masks/x.tif has 2 pages, expected 1', convert, 'masks_to_coco', root, '--out',
            tmp_path / 'o.json')


def test_a_mask_too_large_for_pillow_ends_in_one_message(convert, tmp_path, capsys, monkeypatch):
    root = tmp_path / 'a'
    image(root / 'images/x.png')
    write(root / 'masks/x.png', bitmap(0))
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    refused(capsys, 'cannot read the mask', convert, 'masks_to_coco', root, '--out',
            tmp_path / 'o.json')


def test_what_may_be_meant_otherwise_is_told(convert, tmp_path, capsys):
    root = tmp_path / 'a'
    image(root / 'images/x.png')
    write(root / 'masks/x.png', 255 - bitmap(0))
    _, said = run(convert, capsys, root)
    assert '1 objects that fill all four corners of their image: the background must be 0' in said
    exif = Image.Exif()
    exif[0x112] = 3  # upside down, so that the size does not tell how the mask was drawn
    Image.new('RGB', (WIDTH, HEIGHT)).save(root / 'images/x.png', exif=exif)
    write(root / 'masks/x.png', bitmap(0))
    found, said = run(convert, capsys, root)
    assert found == {'images/x.png': [row(0)]} and '1 masks of an image that EXIF rotates' in said


def test_folders_without_any_mask_and_one_too_high_are_named(convert, tmp_path, capsys):
    root = tmp_path / 'a'
    for name in 'xy':
        image(root / 'train' / name / f'images/{name}.png')
    words = ('--out', tmp_path / 'o.json')
    refused(capsys, 'no image has a mask: 2 images', convert, 'masks_to_coco', root / 'train',
            *words)
    refused(capsys, f"give {str(root / 'train')!r}", convert, 'masks_to_coco', root, *words)
    write(root / 'train/x/masks/0.png', bitmap(0))
    refused(capsys, '--class-name is empty', convert, 'masks_to_coco', root / 'train',
            '--class-name', ' ', *words)
    refused(capsys, 'give one of them', convert, 'masks_to_coco', root / 'train', '--class-name',
            'a', '--classes', 'b=1', *words)


def test_a_mask_whose_name_has_another_case_is_found(convert, tmp_path, capsys):
    import cv2
    mask = np.zeros((40, 60), np.uint8)
    mask[5:20, 5:20] = 1
    mask[25:35, 30:50] = 2
    for folder, ending in (('images', 'jpg'), ('masks', 'png')):
        (tmp_path / folder).mkdir()
        for name in ('a', 'b'):
            cv2.imwrite(str(tmp_path / folder / f'{name}.{ending}'), mask)
    (tmp_path / 'masks/a.png').rename(tmp_path / 'masks/A.PNG')
    convert('masks_to_coco', tmp_path, '--out', tmp_path / 'o.json')
    assert '2 images, 4 objects' in capsys.readouterr().out
