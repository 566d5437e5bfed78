"""Turn PASCAL VOC's xml files into a COCO json.

    python tools/dataset_converters/voc.py data/VOCdevkit/VOC2007 --list ImageSets/Main/trainval.txt --out voc07.json

Boxes are those of VOCDataset (whole pixels from 0); difficult objects become iscrowd, which COCO's training and metric
ignore. Images lie under the folder given: that is img_prefix.
"""
import argparse
import os.path as osp
import sys
from typing import Optional

sys.path.insert(0, osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__)))))

from mmdet_ft.engine.begin import read_arguments  # noqa: E402
from mmdet_ft.engine.errors import command  # noqa: E402
from mmdet_ft.errors import DataError  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('root', help='the folder that holds images and xml files')
    parser.add_argument('--out', required=True, help='the json to write')
    parser.add_argument('--list', help='text file in root, a name a line; default: all xml files')
    parser.add_argument('--img-subdir', default='JPEGImages', help='folder of the images in root')
    parser.add_argument(
        '--ann-subdir', default='Annotations', help='folder of the xml files in root')
    parser.add_argument('--classes', nargs='+', help='names in order; default: all, sorted')
    parser.add_argument('--force', action='store_true', help='replace an existing json')
    return parser.parse_args()


# Parse arguments and read the config before importing torch: --help and wrong paths respond at once.
ARGS = read_arguments(parse_args) if __name__ == '__main__' else None

from mmdet_ft.datasets.annotations.to_coco import ImageFolder  # noqa: E402
from mmdet_ft.datasets.annotations.to_coco import ImageObjects  # noqa: E402
from mmdet_ft.datasets.annotations.to_coco import folder_of_images  # noqa: E402
from mmdet_ft.datasets.annotations.to_coco import listed_or_all  # noqa: E402
from mmdet_ft.datasets.annotations.to_coco import refuse_existing  # noqa: E402
from mmdet_ft.datasets.annotations.to_coco import write_coco  # noqa: E402
from mmdet_ft.datasets.detection.xml_style import image_beside, read_voc_xml  # noqa: E402
from mmdet_ft.datasets.images.names import plain_name_hint  # noqa: E402
from mmdet_ft.datasets.images.names import find_on_disk, nearest_name  # noqa: E402
from mmdet_ft.engine.reporting.progress import track  # noqa: E402


def read(folder: ImageFolder, img_subdir: str, ann_subdir: str,
         name: str) -> Optional[ImageObjects]:
    """Read the objects of an image; None if it is not in the folder."""
    path = find_on_disk(osp.join(folder.root, ann_subdir, f'{name}.xml'))
    try:
        content = read_voc_xml(path)
    except FileNotFoundError:
        raise DataError(f'there is no {path}, which the list names as {name!r}'
                        f'{plain_name_hint(name) or nearest_name(path)}') from None
    beside = image_beside(osp.join(folder.root, img_subdir), name, content.filename)
    file_name = folder.find(osp.normpath(osp.join(img_subdir, beside)).replace(osp.sep, '/'))
    if file_name is None:
        return None
    listed = None if content.width is None else (content.width, content.height)
    width, height = folder.settled_size(file_name, listed, content.boxes, path)
    return ImageObjects(file_name, width, height, content.names, content.boxes.astype(float),
                        content.difficult)


@command
def main() -> None:
    args = ARGS or parse_args()
    listed = osp.join(args.root, args.list) if args.list else None
    names = listed_or_all(args.root, args.ann_subdir, args.img_subdir, '.xml', listed)
    folder_of_images(args.root, args.img_subdir, args.ann_subdir)
    inputs = [osp.join(args.root, args.ann_subdir, f'{name}.xml') for name in names]
    inputs += [listed] if listed else []
    refuse_existing(args.out, args.force, inputs)
    folder = ImageFolder(args.root)
    images = (
        image for name in track(names, 'reading', len(names))
        if (image := read(folder, args.img_subdir, args.ann_subdir, name)) is not None)
    print(write_coco(args.out, images, args.classes, args.force, folder, inputs))


if __name__ == '__main__':
    main()
