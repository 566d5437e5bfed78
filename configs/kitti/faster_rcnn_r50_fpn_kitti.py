# Fine-tune a Faster R-CNN that knows COCO's classes to KITTI's Car, Pedestrian and Cyclist. For other classes of the
# files, set classes=(...) in data.train, data.val and data.test: the head follows.
#
#     python tools/train.py configs/kitti/faster_rcnn_r50_fpn_kitti.py
_base_ = [
    '../_base_/datasets/kitti.py', '../_base_/models/faster_rcnn_r50_fpn.py',
    '../_base_/default_runtime.py'
]
model = dict(
    backbone=dict(init_cfg=None),  # load_from brings the backbone too
    roi_head=dict(bbox_head=dict(num_classes='auto')),
    # Boxes that lie by half in a DontCare region are neither objects nor background.
    train_cfg=dict(
        rpn=dict(assigner=dict(ignore_iof_thr=0.5)), rcnn=dict(assigner=dict(ignore_iof_thr=0.5))))
# lr is for 16 images a step.
optimizer = dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=0.0001)
auto_scale_lr = dict(base_batch_size=16)
optimizer_config = dict(grad_clip=None)
lr_config = dict(policy='step', warmup='linear', warmup_iters=500, warmup_ratio=0.001, step=[8, 11])
runner = dict(type='EpochBasedRunner', max_epochs=12)
evaluation = dict(save_best='auto')  # moderate_mAP, what the benchmark ranks by
load_from = 'https://download.openmmlab.com/mmdetection/v2.0/faster_rcnn/faster_rcnn_r50_fpn_2x_coco/faster_rcnn_r50_fpn_2x_coco_bbox_mAP-0.384_20200504_210434-a5d8aa15.pth'  # noqa: E501
