"""Box heads: classification and box regression of regions."""
from typing import Dict, List, NamedTuple, Optional, Tuple, Type, Union

import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdet_ft.models.base_module import BaseModule, InitCfg, PartConfig
from mmdet_ft.models.coders import DeltaXYWHBBoxCoder
from mmdet_ft.models.layers import apply_to_valid, linear_of_map
from mmdet_ft.models.losses.iou import require_boxes
from mmdet_ft.models.normed_layers import NormedLinear
from mmdet_ft.ops.boxes import take
from mmdet_ft.parts import Rows, Takes
from mmdet_ft.registry import MODELS, fixed_arguments
from mmdet_ft.structures import GroundTruth, Losses


class SampledRoIs(NamedTuple):
    """Sampled regions for training a RoI head.

    Positives are in the first P slots; empty slots have a unit box.
    """
    boxes: Tensor  # float32 [B, S, 4]
    valid: Tensor  # bool [B, S]
    positive: Tensor  # bool [B, P]
    gt_index: Tensor  # int64 [B, P], the ground truth of a positive
    is_gt: Tensor  # bool [B, P], whether a positive is itself a ground truth


LINEAR_LAYERS: Dict[str, Type[nn.Linear]] = dict(Linear=nn.Linear, NormedLinear=NormedLinear)


def linear_predictor(settings: Dict, in_features: int, out_features: int) -> nn.Linear:
    """Build the layer of `cls_predictor_cfg` or `reg_predictor_cfg`: Linear, or NormedLinear."""
    settings = dict(settings)
    kind = settings.pop('type', 'Linear')
    layer = LINEAR_LAYERS.get(kind)
    if layer is None:
        raise ValueError(
            f'predictor type {kind!r} is not available; write one of {", ".join(LINEAR_LAYERS)}')
    return layer(in_features, out_features, **settings)


@MODELS.register_module()
class ConvFCBBoxHead(BaseModule):
    """Shared convolution and linear layers, then those of each branch, then both predictors.

                                /-> cls convs -> cls fcs -> fc_cls
        shared convs -> shared fcs
                                \\-> reg convs -> reg fcs -> fc_reg

    V2's arguments and state_dict. A loss may decide about the logits, as V2's SeesawLoss does: `get_cls_channels`,
    `get_activation` and `get_accuracy`.
    """
    prediction_rows = dict(fc_cls=Rows(background=1), fc_reg=Rows(each=4))
    learns_from = ('gt_bboxes', 'gt_labels')
    has_background_class = True  # the last of K + 1 logits

    def __init__(self,
                 num_shared_convs: int = 0,
                 num_shared_fcs: int = 0,
                 num_cls_convs: int = 0,
                 num_cls_fcs: int = 0,
                 num_reg_convs: int = 0,
                 num_reg_fcs: int = 0,
                 conv_out_channels: int = 256,
                 fc_out_channels: int = 1024,
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Optional[Dict] = None,
                 with_avg_pool: bool = False,
                 with_cls: bool = True,
                 with_reg: bool = True,
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
                 reg_predictor_cfg: Dict = dict(type='Linear'),
                 cls_predictor_cfg: Dict = dict(type='Linear'),
                 loss_cls: PartConfig = dict(
                     type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
                 loss_bbox: PartConfig = dict(type='SmoothL1Loss', beta=1.0, loss_weight=1.0),
                 init_cfg: InitCfg = None):
        if init_cfg is None:
            init_cfg = [
                dict(type='Normal', std=0.01, override=dict(name='fc_cls')),
                dict(type='Normal', std=0.001, override=dict(name='fc_reg')),
                dict(
                    type='Xavier',
                    distribution='uniform',
                    override=[dict(name='shared_fcs'),
                              dict(name='cls_fcs'),
                              dict(name='reg_fcs')])
            ]
        super().__init__(init_cfg)
        assert with_cls and with_reg, 'a box head without one of its branches is not built here'
        self.with_avg_pool, self.num_classes, self.in_channels = with_avg_pool, num_classes, in_channels
        self.reg_class_agnostic, self.reg_decoded_bbox = reg_class_agnostic, reg_decoded_bbox
        self.bbox_coder: DeltaXYWHBBoxCoder = MODELS.build(bbox_coder)
        self.loss_cls = MODELS.build(loss_cls)
        self.loss_bbox = MODELS.build(loss_bbox)
        require_boxes(self.loss_bbox, reg_decoded_bbox, type(self).__name__)

        self.roi_feat_size = roi_feat_size
        cells = 1 if with_avg_pool else roi_feat_size**2

        def branch(num_convs: int, num_fcs: int, channels: int,
                   flat: bool) -> Tuple[nn.ModuleList, nn.ModuleList, int, bool]:
            """Return layers, the width of their output, and whether it is already flat."""
            convs = nn.ModuleList(
                ConvModule(
                    channels if i == 0 else conv_out_channels,
                    conv_out_channels,
                    3,
                    padding=1,
                    conv_cfg=conv_cfg,
                    norm_cfg=norm_cfg) for i in range(num_convs))
            channels = conv_out_channels if num_convs else channels
            width = channels if flat else channels * cells
            fcs = nn.ModuleList(
                nn.Linear(width if i == 0 else fc_out_channels, fc_out_channels)
                for i in range(num_fcs))
            return convs, fcs, fc_out_channels if num_fcs else channels, flat or num_fcs > 0

        shared_convs, shared_fcs, width, flat = branch(num_shared_convs, num_shared_fcs,
                                                       in_channels, False)
        assert not flat or num_cls_convs + num_reg_convs == 0, 'no convolution can follow shared_fcs'
        cls_convs, cls_fcs, cls_width, cls_flat = branch(num_cls_convs, num_cls_fcs, width, flat)
        reg_convs, reg_fcs, reg_width, reg_flat = branch(num_reg_convs, num_reg_fcs, width, flat)
        # The predictors come first, as in V2's state_dict.
        self.fc_cls = linear_predictor(cls_predictor_cfg, cls_width * (1 if cls_flat else cells),
                                       self._count_logits())
        self.fc_reg = linear_predictor(reg_predictor_cfg, reg_width * (1 if reg_flat else cells),
                                       4 if reg_class_agnostic else 4 * num_classes)
        self.shared_convs, self.shared_fcs = shared_convs, shared_fcs
        self.cls_convs, self.cls_fcs = cls_convs, cls_fcs
        self.reg_convs, self.reg_fcs = reg_convs, reg_fcs

    def _count_logits(self) -> int:
        """Return the number of logits, and note rows after those of the classes."""
        if not getattr(self.loss_cls, 'custom_cls_channels', False):
            return self.num_classes + 1
        number: int = self.loss_cls.get_cls_channels(self.num_classes)
        self.prediction_rows = {
            **self.prediction_rows, 'fc_cls': Rows(background=number - self.num_classes)
        }
        return number

    def takes(self) -> List[Takes]:
        return [Takes('in_channels', self.in_channels)]

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the probabilities [..., K+1] of the classes and the background, of logits as forward returns them."""
        if getattr(self.loss_cls, 'custom_activation', False):
            return self.loss_cls.get_activation(logits)
        return logits.softmax(-1)

    def likeliest(self, logits: Tensor) -> Tensor:
        """Return the likeliest class [R], in 0..K-1, of logits as forward returns them."""
        if getattr(self.loss_cls, 'custom_activation', False):
            logits = self.loss_cls.get_activation(logits)
        return logits[:, :-1].argmax(1)

    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        """Return float32 logits [R, K+1] and deltas [R, 4*K] or [R, 4] of x [R, C, size, size].

        Raises ValueError for another size than `roi_feat_size` without `with_avg_pool`.
        """
        self.check_size(x)
        x = self._branch(x, self.shared_convs, self.shared_fcs)
        cls = self._branch(x, self.cls_convs, self.cls_fcs, last=True)
        reg = self._branch(x, self.reg_convs, self.reg_fcs, last=True)
        return linear_of_map(self.fc_cls, cls).float(), linear_of_map(self.fc_reg, reg).float()

    def check_size(self, x: Tensor) -> None:
        """Raise ValueError if pooled regions [R, C, h, w] are not of the size that the layers take."""
        if not self.with_avg_pool and x.shape[-1] != self.roi_feat_size:
            raise ValueError(
                f'roi_feat_size is {self.roi_feat_size}, but the RoI extractor gives {x.shape[-1]} x {x.shape[-2]}; '
                f'write roi_feat_size={x.shape[-1]}')

    def _branch(self,
                x: Tensor,
                convs: nn.ModuleList,
                fcs: nn.ModuleList,
                last: bool = False) -> Tensor:
        for conv in convs:
            x = conv(x)
        if self.with_avg_pool and (len(fcs) or last) and x.dim() > 2:
            x = x.mean((2, 3))
        for fc in fcs:
            x = linear_of_map(fc, x).relu()
        return x

    def loss(self, cls_score: Tensor, bbox_pred: Tensor, rois: SampledRoIs, gt: GroundTruth,
             pos_weight: float) -> Losses:
        """Return `loss_cls` (or the losses of a loss with several), `loss_bbox` and metric `acc`.

        They are averages over all sampled regions.

        cls_score [B*S, K+1], bbox_pred [B*S, 4*K] as returned by forward.
        """
        (num_images, num_slots), num_pos_slots = rois.valid.shape, rois.positive.shape[1]
        pos_labels = take(gt.labels, rois.gt_index).masked_fill(~rois.positive,
                                                                self.num_classes)  # [B, P]
        background = pos_labels.new_full((num_images, num_slots - num_pos_slots), self.num_classes)
        labels = torch.cat([pos_labels, background], 1).flatten()
        weight = rois.valid.float()
        if pos_weight > 0:
            of_positives = weight[:, :num_pos_slots].masked_fill(rois.positive, pos_weight)
            weight = torch.cat([of_positives, weight[:, num_pos_slots:]], 1)
        drawn = rois.valid.sum()
        loss_cls = self.loss_cls(cls_score, labels, weight.flatten(), avg_factor=drawn.clamp(min=1))

        start = rois.boxes[:, :num_pos_slots]
        goal = torch.where(rois.positive[..., None], take(gt.boxes, rois.gt_index), start)
        pred = bbox_pred.view(num_images, num_slots, -1, 4)[:, :num_pos_slots]
        if self.reg_class_agnostic:
            pred = pred[:, :, 0]
        else:
            label = pos_labels.masked_fill(~rois.positive, 0)[..., None, None].expand(-1, -1, 1, 4)
            pred = pred.gather(2, label)[:, :, 0]  # [B, P, 4]
        if self.reg_decoded_bbox:
            pred = self.bbox_coder.decode(start, pred)
        else:
            goal = self.bbox_coder.encode(start, goal)
        loss_bbox = self.loss_bbox(
            pred.flatten(0, 1),
            goal.flatten(0, 1),
            rois.positive.flatten()[:, None].expand(-1, 4).float(),
            avg_factor=drawn.clamp(min=1))
        terms = loss_cls if isinstance(loss_cls, dict) else dict(loss_cls=loss_cls)
        return Losses({
            **terms, 'loss_bbox': loss_bbox
        }, self._accuracy(cls_score, labels, rois.valid.flatten(), drawn))

    def _accuracy(self, logits: Tensor, labels: Tensor, valid: Tensor,
                  number: Tensor) -> Dict[str, Tensor]:
        """Return the share of the `number` valid regions with the right class in percent, or what the loss measures."""
        if getattr(self.loss_cls, 'custom_accuracy', False):
            return self.loss_cls.get_accuracy(logits, labels, valid)
        right = (logits.argmax(1) == labels) & valid
        return dict(acc=right.sum() * (100. / number.clamp(min=1)))

    def classification_losses(self, pooled: Union[Tensor, Tuple[Tensor, ...]], classes: Tensor,
                              valid: Tensor) -> Tensor:
        """Return the loss [B, N] of regions with target classes (or background) [B, N].

        pooled [B*N, C, size, size], or a tuple of such inputs. The loss of regions that are not
        valid, bool [B, N], is undefined.
        """
        logits, _ = apply_to_valid(self, pooled, valid.flatten())
        losses = self.loss_cls(logits, classes.flatten(), reduction_override='none')
        if isinstance(losses, dict):
            losses = torch.stack(list(losses.values()), 1)
        return losses.view(*classes.shape, -1).sum(-1)

    @torch.no_grad()
    def refine(self, boxes: Tensor, labels: Tensor, deltas: Tensor, sizes: Tensor) -> Tensor:
        """Return boxes [B, N, 4] moved by their deltas, those of class `labels` if there are several.

        boxes [B, N, 4]; labels [B, N] in 0..K-1; deltas [B*N, 4*K] or [B*N, 4] as returned by forward;
        sizes [B, 2], (h, w) that boxes are clipped to.
        """
        deltas = deltas.view(*labels.shape, -1, 4)
        if not self.reg_class_agnostic:
            deltas = deltas.gather(2, labels[..., None, None].expand(-1, -1, 1, 4))
        return self.bbox_coder.decode(boxes, deltas[:, :, 0], max_shape=sizes)


# The branches of the common heads have no layers of their own.
NO_BRANCHES = dict(num_cls_convs=0, num_cls_fcs=0, num_reg_convs=0, num_reg_fcs=0)


@MODELS.register_module()
@fixed_arguments(num_shared_convs=0, num_shared_fcs=0, **NO_BRANCHES)
class BBoxHead(ConvFCBBoxHead):
    """The two predictors directly on the region's features: V2's simplest head."""


@MODELS.register_module()
@fixed_arguments(num_shared_convs=0, num_shared_fcs=2, **NO_BRANCHES)
class Shared2FCBBoxHead(ConvFCBBoxHead):
    """Two shared fully connected layers: the head of FPN."""


@MODELS.register_module()
@fixed_arguments(num_shared_convs=4, num_shared_fcs=1, **NO_BRANCHES)
class Shared4Conv1FCBBoxHead(ConvFCBBoxHead):
    """Four shared convolutions and one fully connected layer: the head used with group norm."""
