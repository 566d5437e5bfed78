# Fine-tune a small Faster R-CNN to your own classes, on a CPU or with few photographs: copy this file and say where the
# data lie and what the classes are.
#
#     python tools/misc/check_data.py configs/custom/faster_rcnn_small.py
#     python tools/train.py configs/custom/faster_rcnn_small.py
#
# The annotation files are COCO jsons; tools/dataset_converters/ makes them from VOC, YOLO and others. For masks
# copy mask_rcnn_small.py.
_base_ = '../custom/base_faster_rcnn_small.py'

# As the json names them; the order is yours, and a single class is written ('cat', ).
classes = ('cat', 'dog')
data_root = 'data/pets/'

data = dict(
    train=dict(classes=classes, ann_file=data_root + 'train.json', img_prefix=data_root + 'train/'),
    val=dict(classes=classes, ann_file=data_root + 'val.json', img_prefix=data_root + 'val/'),
    test=dict(classes=classes, ann_file=data_root + 'val.json', img_prefix=data_root + 'val/'))
