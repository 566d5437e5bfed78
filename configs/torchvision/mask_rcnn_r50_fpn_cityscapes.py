# torchvision's Mask R-CNN for COCO fine-tuned to Cityscapes: 7 of the 8 classes begin with what their heads know.
# Schedule and data are those of ../cityscapes/mask_rcnn_ft.py.
_base_ = '../cityscapes/mask_rcnn_ft.py'
model = dict(
    backbone=dict(norm_cfg=dict(requires_grad=False, eps=0.)),
    rpn_head=dict(anchor_generator=dict(type='TorchvisionAnchorGenerator')),
    roi_head=dict(
        bbox_roi_extractor=dict(roi_layer=dict(sampling_ratio=2, aligned=False)),
        mask_roi_extractor=dict(roi_layer=dict(sampling_ratio=2, aligned=False))))
load_from = dict(_delete_=True, checkpoint='torchvision://maskrcnn_resnet50_fpn', heads='by_class')
