# Fine-tune a Cascade Mask R-CNN to your own classes: copy this file, and set the paths and the names of the classes.
#
#     python tools/misc/check_data.py configs/custom/cascade_mask_rcnn.py
#     python tools/train.py configs/custom/cascade_mask_rcnn.py
#
# The annotation files are COCO jsons; tools/dataset_converters/ makes them from labelme, VIA and others. For boxes
# without masks copy faster_rcnn.py.
_base_ = '../custom/base_cascade_mask_rcnn.py'

# As the json names them; the order is yours, and a single class is written ('cat', ).
classes = ('cat', 'dog')
data_root = 'data/pets/'

data = dict(
    train=dict(classes=classes, ann_file=data_root + 'train.json', img_prefix=data_root + 'train/'),
    val=dict(classes=classes, ann_file=data_root + 'val.json', img_prefix=data_root + 'val/'),
    test=dict(classes=classes, ann_file=data_root + 'val.json', img_prefix=data_root + 'val/'))
