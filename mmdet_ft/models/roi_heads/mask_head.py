"""Mask head (Mask R-CNN, sec. 3 and figure 4)."""
from typing import Dict, List, Optional

import torch.nn.functional as F
from mmcv.cnn import ConvModule, build_conv_layer
from torch import Tensor, nn

from mmdet_ft.models.base_module import BaseModule, InitCfg, Loader, PartConfig, kaiming_init
from mmdet_ft.parts import Rows, Takes
from mmdet_ft.registry import MODELS


@MODELS.register_module()
class FCNMaskHead(BaseModule):
    """Convolutions, one upsampling, and a bitmap of logits for each class.

    V2's arguments and state_dict (`convs`, `upsample`, `conv_logits`). `upsample_cfg` of type
    deconv, nearest or bilinear, or None.
    """
    prediction_rows = dict(conv_logits=Rows())
    learns_from = ('gt_masks', )

    def __init__(self,
                 num_convs: int = 4,
                 roi_feat_size: int = 14,
                 in_channels: int = 256,
                 conv_kernel_size: int = 3,
                 conv_out_channels: int = 256,
                 num_classes: int = 80,
                 class_agnostic: bool = False,
                 upsample_cfg: Dict = dict(type='deconv', scale_factor=2),
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Optional[Dict] = None,
                 predictor_cfg: Dict = dict(type='Conv'),
                 loss_mask: PartConfig = dict(
                     type='CrossEntropyLoss', use_mask=True, loss_weight=1.0),
                 init_cfg: InitCfg = None):
        super().__init__(init_cfg)
        self.num_classes, self.class_agnostic, self.in_channels = num_classes, class_agnostic, in_channels
        self.convs = nn.ModuleList(
            ConvModule(
                in_channels if i == 0 else conv_out_channels,
                conv_out_channels,
                conv_kernel_size,
                padding=(conv_kernel_size - 1) // 2,
                conv_cfg=conv_cfg,
                norm_cfg=norm_cfg) for i in range(num_convs))
        channels = conv_out_channels if num_convs else in_channels
        upsample = dict(upsample_cfg or dict(type=None))
        kind, scale = upsample.pop('type'), upsample.pop('scale_factor', 2)
        self.upsample: Optional[nn.Module] = None
        if kind == 'deconv':
            self.upsample = nn.ConvTranspose2d(channels, conv_out_channels, scale, stride=scale)
            channels = conv_out_channels
        elif kind in ('nearest', 'bilinear'):
            self.upsample = nn.Upsample(
                scale_factor=scale, mode=kind, align_corners=None if kind == 'nearest' else False)
        elif kind is not None:
            raise ValueError(
                f"upsample_cfg type {kind!r} is not available; write 'deconv', 'nearest', 'bilinear' or None"
            )
        self.relu_after_upsample = kind == 'deconv'
        self.conv_logits = build_conv_layer(predictor_cfg, channels,
                                            1 if class_agnostic else num_classes, 1)
        self.loss_mask = MODELS.build(loss_mask)

    def init_weights(self, load: Optional[Loader] = None) -> None:
        super().init_weights(load)
        for layer in (self.upsample, self.conv_logits):
            if layer is not None and hasattr(layer, 'weight'):
                kaiming_init(layer)

    def takes(self) -> List[Takes]:
        return [Takes('in_channels', self.in_channels)]

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [R, K, 28, 28] (or [R, 1, 28, 28]) of region features [R, C, 14, 14]."""
        return self.predict(self.convolve(x))

    def convolve(self, x: Tensor) -> Tensor:
        """Return the features [R, C, 14, 14] that masks are predicted from."""
        for conv in self.convs:
            x = conv(x)
        return x

    def predict(self, x: Tensor) -> Tensor:
        """Return logits [R, K, 28, 28] of the features of `convolve`."""
        if self.upsample is not None:
            x = self.upsample(x)
            if self.relu_after_upsample:
                x = F.relu(x)
        return self.conv_logits(x)

    def select_class(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Select each region's mask of its own class.

        logits [R, K, M, M], labels [R] in 0..K-1 -> float32 [R, M, M].
        """
        if self.class_agnostic:
            return logits[:, 0].float()
        index = labels[:, None, None, None].expand(-1, 1, *logits.shape[2:])
        return logits.gather(1, index)[:, 0].float()

    def loss(self, logits: Tensor, targets: Tensor, labels: Tensor,
             valid: Tensor) -> Dict[str, Tensor]:
        """Return `loss_mask`: mean binary cross entropy over the pixels of the valid regions.

        logits [T, K, M, M]; targets [T, M, M]; labels [T] in 0..K-1; valid [T].
        """
        return dict(
            loss_mask=self.loss_mask(self.select_class(logits, labels), targets, valid=valid))


@MODELS.register_module()
class HTCMaskHead(FCNMaskHead):
    """A mask head that adds the features of the stage before it to its input (HTC, sec. 3.2).

        features -> + -> convs -> upsample -> conv_logits
                    ^      \\-> to the next stage
        the stage before -> conv_res

    V2's arguments and state_dict. The first stage has no `conv_res`: `with_conv_res=False`.
    """

    def __init__(self,
                 with_conv_res: bool = True,
                 num_convs: int = 4,
                 roi_feat_size: int = 14,
                 in_channels: int = 256,
                 conv_kernel_size: int = 3,
                 conv_out_channels: int = 256,
                 num_classes: int = 80,
                 class_agnostic: bool = False,
                 upsample_cfg: Dict = dict(type='deconv', scale_factor=2),
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Optional[Dict] = None,
                 predictor_cfg: Dict = dict(type='Conv'),
                 loss_mask: PartConfig = dict(
                     type='CrossEntropyLoss', use_mask=True, loss_weight=1.0),
                 init_cfg: InitCfg = None):
        super().__init__(num_convs, roi_feat_size, in_channels, conv_kernel_size, conv_out_channels,
                         num_classes, class_agnostic, upsample_cfg, conv_cfg, norm_cfg,
                         predictor_cfg, loss_mask, init_cfg)
        self.conv_res: Optional[nn.Module] = None
        if with_conv_res:
            self.conv_res = ConvModule(
                conv_out_channels, conv_out_channels, 1, conv_cfg=conv_cfg, norm_cfg=norm_cfg)

    def forward(self, x: Tensor, previous: Optional[Tensor] = None) -> Tensor:
        """Return logits [R, K, 28, 28] of region features x and, from the stage before, `convolve`'s."""
        return self.predict(self.convolve(x, previous))

    def convolve(self, x: Tensor, previous: Optional[Tensor] = None) -> Tensor:
        """Return the features [R, C, 14, 14] that masks are predicted from and the next stage gets."""
        if previous is not None:
            assert self.conv_res is not None, 'with_conv_res=False'
            x = x + self.conv_res(previous)
        return super().convolve(x)
