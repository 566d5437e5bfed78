# Fine-tune a Faster R-CNN to your own classes in PASCAL VOC's form, an xml file an image: copy this file and say where
# the data lie and what the classes are.
#
#     python tools/misc/check_data.py configs/custom/faster_rcnn_voc.py
#     python tools/train.py configs/custom/faster_rcnn_voc.py
#
# The lists hold the names of images, one a line without ending. Without lists make one json of all xml
# files, and split it:
#
#     python tools/dataset_converters/voc.py data/pets --out data/pets/all.json
#     python tools/misc/split_dataset.py data/pets/all.json --val 0.2 --img-prefix data/pets
#
# configs/custom/faster_rcnn.py reads what they write.
_base_ = '../custom/base_faster_rcnn.py'

# As the xml files name them; the order is yours, and a single class is written ('cat', ).
classes = ('cat', 'dog')
data_root = 'data/pets/'
folders = dict(img_prefix=data_root, ann_subdir='Annotations', img_subdir='JPEGImages')

data = dict(
    train=dict(
        type='XMLDataset',
        classes=classes,
        ann_file=data_root + 'ImageSets/Main/train.txt',
        **folders),
    val=dict(
        type='XMLDataset', classes=classes, ann_file=data_root + 'ImageSets/Main/val.txt', **folders),
    test=dict(
        type='XMLDataset', classes=classes, ann_file=data_root + 'ImageSets/Main/val.txt', **folders))
# The metric of PASCAL VOC; its table has a row for each class.
evaluation = dict(_delete_=True, interval=1, metric='mAP', save_best='mAP')
