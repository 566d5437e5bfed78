# Try a slim Faster R-CNN on your own classes, on a CPU and without a download: copy this file and say where the data are
# and what the classes are.
#
#     python tools/misc/check_data.py configs/custom/faster_rcnn_slim.py
#     python tools/train.py configs/custom/faster_rcnn_slim.py
#
# The annotation files are COCO jsons; tools/dataset_converters/ makes them from VOC, YOLO and others. For masks
# copy mask_rcnn_slim.py.
_base_ = '../custom/base_faster_rcnn_slim.py'

# As the json names them; the order is yours, and a single class is written ('cat', ).
classes = ('cat', 'dog')
data_root = 'data/pets/'

data = dict(
    train=dict(classes=classes, ann_file=data_root + 'train.json', img_prefix=data_root + 'train/'),
    val=dict(classes=classes, ann_file=data_root + 'val.json', img_prefix=data_root + 'val/'),
    test=dict(classes=classes, ann_file=data_root + 'val.json', img_prefix=data_root + 'val/'))
