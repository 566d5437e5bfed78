"""Double-Head R-CNN: convolutions regress boxes, fully connected layers classify (Rethinking Classification
and Localization for Object Detection).
"""
from typing import Dict, Optional, Sequence, Tuple, Union

from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdet_ft.models.backbones.residual import Bottleneck
from mmdet_ft.models.base_module import BaseModule, InitCfg, ModuleList, PartConfig
from mmdet_ft.models.coders import DeltaXYWHBBoxCoder
from mmdet_ft.models.layers import linear_of_map
from mmdet_ft.models.roi_heads.base import RCNNTestSettings, RCNNTrainSettings
from mmdet_ft.models.roi_heads.bbox_heads import ConvFCBBoxHead
from mmdet_ft.models.roi_heads.standard_roi_head import StandardRoIHead
from mmdet_ft.registry import MODELS


class WideningBlock(BaseModule):
    """A residual block of a 3x3 and a 1x1 convolution that changes the number of channels (fig. 6 a).

    V2's state_dict (`conv1`, `conv2`, `conv_identity`).
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        norm = dict(type='BN')
        self.conv1 = ConvModule(in_channels, in_channels, 3, padding=1, bias=False, norm_cfg=norm)
        self.conv2 = ConvModule(
            in_channels, out_channels, 1, bias=False, norm_cfg=norm, act_cfg=None)
        self.conv_identity = ConvModule(in_channels, out_channels, 1, norm_cfg=norm, act_cfg=None)

    def forward(self, x: Tensor) -> Tensor:
        """Return [R, out_channels, size, size] of x [R, in_channels, size, size]."""
        return (self.conv2(self.conv1(x)) + self.conv_identity(x)).relu()


@MODELS.register_module()
class DoubleConvFCBBoxHead(ConvFCBBoxHead):
    """One branch for each task.

        features of the region       -> fc_branch -> fc_cls
        features of a larger region  -> res_block -> conv_branch -> average -> fc_reg

    V2's arguments and state_dict.

    Args:
        num_convs: bottleneck blocks of the regression branch.
        num_fcs: fully connected layers of the classification branch.
        conv_out_channels, fc_out_channels: of the branches.
        conv_cfg, norm_cfg: of the bottleneck blocks.
        others: as ConvFCBBoxHead.
    """
    takes = ConvFCBBoxHead.takes  # by this forward

    def __init__(self,
                 num_convs: int,
                 num_fcs: int,
                 conv_out_channels: int = 1024,
                 fc_out_channels: int = 1024,
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Dict = dict(type='BN'),
                 with_avg_pool: bool = True,
                 roi_feat_size: int = 7,
                 in_channels: int = 256,
                 num_classes: int = 80,
                 bbox_coder: Union[Dict, DeltaXYWHBBoxCoder] = dict(
                     type='DeltaXYWHBBoxCoder',
                     clip_border=True,
                     target_means=[0., 0., 0., 0.],
                     target_stds=[0.1, 0.1, 0.2, 0.2]),
                 reg_class_agnostic: bool = False,
                 reg_decoded_bbox: bool = False,
                 loss_cls: PartConfig = dict(
                     type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
                 loss_bbox: PartConfig = dict(type='SmoothL1Loss', beta=1.0, loss_weight=1.0),
                 init_cfg: InitCfg = dict(
                     type='Normal',
                     override=[
                         dict(type='Normal', name='fc_cls', std=0.01),
                         dict(type='Normal', name='fc_reg', std=0.001),
                         dict(type='Xavier', name='fc_branch', distribution='uniform')
                     ])):
        if not with_avg_pool or min(num_convs, num_fcs) < 1:
            raise ValueError('DoubleConvFCBBoxHead: write with_avg_pool=True, and at least 1 for '
                             'num_convs and num_fcs')
        super().__init__(
            roi_feat_size=roi_feat_size,
            in_channels=in_channels,
            num_classes=num_classes,
            bbox_coder=bbox_coder,
            reg_class_agnostic=reg_class_agnostic,
            reg_decoded_bbox=reg_decoded_bbox,
            loss_cls=loss_cls,
            loss_bbox=loss_bbox,
            init_cfg=init_cfg)
        self.fc_cls = nn.Linear(fc_out_channels, num_classes + 1)
        self.fc_reg = nn.Linear(conv_out_channels, self.fc_reg.out_features)
        self.res_block = WideningBlock(in_channels, conv_out_channels)
        self.conv_branch = ModuleList([
            Bottleneck(
                conv_out_channels, conv_out_channels // 4, conv_cfg=conv_cfg, norm_cfg=norm_cfg)
            for _ in range(num_convs)
        ])
        widths = [in_channels * roi_feat_size**2] + [fc_out_channels] * num_fcs
        self.fc_branch = ModuleList(
            [nn.Linear(width, fc_out_channels) for width in widths[:num_fcs]])

    def forward(  # type: ignore[override] # two inputs
            self, x_cls: Tensor, x_reg: Tensor) -> Tuple[Tensor, Tensor]:
        """Return float32 logits [R, K+1] and deltas [R, 4*K] or [R, 4].

        x_cls, x_reg [R, C, size, size]: features of the branches' regions.
        """
        self.check_size(x_cls)
        convolved = self.res_block(x_reg)
        for block in self.conv_branch:
            convolved = block(convolved)
        for fc in self.fc_branch:
            x_cls = linear_of_map(fc, x_cls).relu()
        return self.fc_cls(x_cls).float(), self.fc_reg(convolved.mean((2, 3))).float()


@MODELS.register_module()
class DoubleHeadRoIHead(StandardRoIHead):
    """StandardRoIHead whose box head also gets the features of a larger region, to regress from.

    V2's arguments.

    Args:
        reg_roi_scale_factor: the larger region's width and height over the region's.
        others: as StandardRoIHead.
    """

    def __init__(self,
                 reg_roi_scale_factor: float,
                 bbox_roi_extractor: Optional[PartConfig] = None,
                 bbox_head: Optional[PartConfig] = None,
                 mask_roi_extractor: Optional[PartConfig] = None,
                 mask_head: Optional[PartConfig] = None,
                 shared_head: Optional[PartConfig] = None,
                 train_cfg: Union[Dict, RCNNTrainSettings, None] = None,
                 test_cfg: Union[Dict, RCNNTestSettings, None] = None,
                 pretrained: Optional[str] = None,
                 init_cfg: InitCfg = None):
        super().__init__(bbox_roi_extractor, bbox_head, mask_roi_extractor, mask_head, shared_head,
                         train_cfg, test_cfg, pretrained, init_cfg)
        self.reg_roi_scale_factor = reg_roi_scale_factor

    def box_inputs(self, features: Sequence[Tensor], rois: Tensor) -> Tuple[Tensor, ...]:
        larger = self.bbox_roi_extractor(features, rois, self.reg_roi_scale_factor)
        if self.shared_head is not None:
            larger = self.shared_head(larger)
        return (*super().box_inputs(features, rois), larger)
