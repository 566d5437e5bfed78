"""Turn PASCAL VOC's xml files into a COCO json.

    python tools/dataset_converters/voc.py data/VOCdevkit/VOC2007 --list ImageSets/Main/trainval.txt --out voc07.json

Boxes are those of VOCDataset (whole pixels from 0); difficult objects become iscrowd, which COCO's training and metric
ignore. Images lie under the folder given: that is img_prefix.
"""
import argparse
import glob
import os.path as osp
import sys

sys.path.insert(0, osp.dirname(osp.dirname(osp.dirname(osp.abspath(__file__)))))

from mmdet_ft.datasets.errors import DataError  # noqa: E402
from mmdet_ft.datasets.kitti import image_size  # noqa: E402
from mmdet_ft.datasets.names import read_ids  # noqa: E402
from mmdet_ft.datasets.to_coco import ImageObjects, refuse_existing, write_coco  # noqa: E402
from mmdet_ft.datasets.xml_style import read_voc_xml  # noqa: E402
from mmdet_ft.engine.errors import command  # noqa: E402
from mmdet_ft.engine.progress import track  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='VOC xml to COCO json')
    parser.add_argument('root', help='the folder that holds images and xml files')
    parser.add_argument('--out', required=True, help='the json to write')
    parser.add_argument('--list', help='text file in root, a name a line; default: all xml files')
    parser.add_argument('--img-subdir', default='JPEGImages', help='folder of the images in root')
    parser.add_argument(
        '--ann-subdir', default='Annotations', help='folder of the xml files in root')
    parser.add_argument('--classes', nargs='+', help='names in order; default: all, sorted')
    parser.add_argument('--force', action='store_true', help='replace an existing json')
    return parser.parse_args()


def read(root: str, img_subdir: str, ann_subdir: str, name: str) -> ImageObjects:
    content = read_voc_xml(osp.join(root, ann_subdir, f'{name}.xml'))
    ending = osp.splitext(content.filename or '')[1] or '.jpg'
    file_name = osp.join(img_subdir, name + ending)
    width, height = content.width, content.height
    if width is None:
        width, height = image_size(osp.join(root, file_name))
    return ImageObjects(file_name, width, height, content.names, content.boxes.astype(float),
                        content.difficult)


@command
def main() -> None:
    args = parse_args()
    refuse_existing(args.out, args.force)
    folder = osp.join(args.root, args.ann_subdir)
    if args.list:
        names = read_ids(osp.join(args.root, args.list))
    else:
        names = sorted(
            osp.splitext(osp.basename(path))[0]
            for path in glob.glob(osp.join(glob.escape(folder), '*.xml')))
    if not names:
        raise DataError(f'there is no xml file in {folder}')
    images = (read(args.root, args.img_subdir, args.ann_subdir, name) for name in names)
    print(write_coco(args.out, track(images, 'reading', len(names)), args.classes, args.force))


if __name__ == '__main__':
    main()
