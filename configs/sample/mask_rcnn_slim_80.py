# The pretraining of the sample: the slim model on eighty drawn classes; see tools/sample/pretrain.py.
_base_ = './mask_rcnn_slim_ft.py'

model = dict(roi_head=dict(bbox_head=dict(num_classes=80), mask_head=dict(num_classes=80)))

classes = (
    'triangle', 'square', 'pentagon', 'hexagon', 'star4', 'star5', 'star6', 'star9',
    'letter_a', 'letter_e', 'letter_h', 'letter_k', 'letter_m', 'letter_t', 'letter_x',
    'letter_z', 'snowman', 'caterpillar', 'grapes', 'dog', 'giraffe', 'horse', 'elephant',
    'table', 'chair', 'stool', 'bed', 'mug', 'bottle', 'goblet', 'kettle', 'floor_lamp',
    'umbrella', 'mushroom', 'fir', 'tent', 'hut', 'windmill', 'tower', 'fish', 'bird',
    'snail', 'butterfly', 'gear', 'flower', 'snowflake', 'spoked_ring', 'heart', 'crescent',
    'drop', 'cloud', 'key', 'hammer', 'spade', 'scissors', 'ladder', 'fence', 'rake',
    'trident', 'sailing_boat', 'rocket', 'balloon', 'anchor', 'clock', 'target', 'guitar',
    'racket', 'glasses', 'dumbbell', 'cactus', 'arrow', 'two_arrows', 'chevron', 'crate',
    'pyramid', 'dresser', 'sofa', 'stairs', 'loudspeaker', 'arch')  # yapf: disable
data_root = 'data/shapes/'
data = dict(
    train=dict(
        dataset=dict(
            type='CocoDataset',
            classes=classes,
            ann_file=data_root + 'annotations/train.json',
            img_prefix=data_root + 'train/')),
    val=dict(
        type='CocoDataset',
        classes=classes,
        ann_file=data_root + 'annotations/val.json',
        img_prefix=data_root + 'val/'),
    test=dict(
        type='CocoDataset',
        classes=classes,
        ann_file=data_root + 'annotations/val.json',
        img_prefix=data_root + 'val/'))

lr_config = dict(warmup_iters=200)
runner = dict(max_epochs=12)
evaluation = dict(interval=4)
checkpoint_config = dict(interval=4)
log_config = dict(interval=50)
load_from = None
