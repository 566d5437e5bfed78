# Fine-tune a YOLOX to your own classes: copy this file, and set the paths of the data and the names of the classes.
#
#     python tools/misc/check_data.py configs/custom/yolox.py
#     python tools/train.py configs/custom/yolox.py
#
# The annotation files are COCO jsons; tools/dataset_converters/ makes them from VOC, KITTI, labelme and others.
_base_ = '../custom/base_yolox.py'

# As the json names them; the order is yours, and a single class is written ('cat', ).
classes = ('cat', 'dog')
data_root = 'data/pets/'

data = dict(
    train=dict(  # four of its images make one mosaic
        dataset=dict(
            classes=classes, ann_file=data_root + 'train.json', img_prefix=data_root + 'train/')),
    val=dict(classes=classes, ann_file=data_root + 'val.json', img_prefix=data_root + 'val/'),
    test=dict(classes=classes, ann_file=data_root + 'val.json', img_prefix=data_root + 'val/'))
