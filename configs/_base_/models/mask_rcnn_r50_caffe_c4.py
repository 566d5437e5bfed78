# Mask R-CNN (He et al. 2017) on the fourth level of a ResNet-50, for 80 classes.
_base_ = './faster_rcnn_r50_caffe_c4.py'
norm_cfg = dict(type='BN', requires_grad=False)
model = dict(
    type='MaskRCNN',
    roi_head=dict(
        shared_head=dict(  # begins from random weights unless load_from has it
            _delete_=True,
            type='ResLayer',
            depth=50,
            stage=3,
            stride=2,
            dilation=1,
            style='caffe',
            norm_cfg=norm_cfg,
            norm_eval=True),
        mask_roi_extractor=None,  # masks come of the features that classes and boxes come of
        mask_head=dict(
            type='FCNMaskHead',
            num_convs=0,
            in_channels=2048,
            conv_out_channels=256,
            num_classes=80,
            loss_mask=dict(type='CrossEntropyLoss', use_mask=True, loss_weight=1.0))),
    train_cfg=dict(rpn=dict(allowed_border=0), rcnn=dict(mask_size=14)),
    test_cfg=dict(rcnn=dict(mask_thr_binary=0.5)))
