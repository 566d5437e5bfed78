from typing import Dict, List, Optional, Sequence, Tuple

from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdet_ft.models.base_module import BaseModule, InitCfg
from mmdet_ft.models.layers import freeze, keep_statistics
from mmdet_ft.parts import Rows
from mmdet_ft.registry import MODELS


@MODELS.register_module()
class VGG(BaseModule):
    """VGG: stages of 3x3 convolutions, each ending with a 2x pooling (Very Deep Convolutional Networks).

    Args:
        depth: 11, 13, 16 or 19.
        num_classes: of the three linear layers, for images of 224x224 pixels; 0 or less omits them.
        num_stages: 1 to 5.
        dilations: one number per stage.
        out_indices: stages whose output is returned, from 0. By default only the output of the linear layers,
            or of the last stage without them.
        frozen_stages: number of stages with frozen weights and statistics.
        conv_cfg, norm_cfg, act_cfg: layers in mmcv's form.
        norm_eval: batch norm keeps its statistics in training.
        ceil_mode: of the poolings.
        with_last_pool: whether the last stage has its pooling.

    Raises ValueError for an unsupported depth or number of stages.
    """

    arch_settings = {
        11: (1, 1, 2, 2, 2),
        13: (2, 2, 2, 2, 2),
        16: (2, 2, 3, 3, 3),
        19: (2, 2, 4, 4, 4),
    }

    def __init__(self,
                 depth: int,
                 num_classes: int = -1,
                 num_stages: int = 5,
                 dilations: Sequence[int] = (1, 1, 1, 1, 1),
                 out_indices: Optional[Sequence[int]] = None,
                 frozen_stages: int = -1,
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Optional[Dict] = None,
                 act_cfg: Dict = dict(type='ReLU'),
                 norm_eval: bool = False,
                 ceil_mode: bool = False,
                 with_last_pool: bool = True,
                 init_cfg: InitCfg = [
                     dict(type='Kaiming', layer=['Conv2d']),
                     dict(type='Constant', val=1., layer=['_BatchNorm']),
                     dict(type='Normal', std=0.01, layer=['Linear'])
                 ]):
        super().__init__(init_cfg)
        has_classifier = num_classes > 0
        if out_indices is None:
            out_indices = () if has_classifier else (num_stages - 1, )
        self._check(depth, num_stages, dilations, out_indices, has_classifier, frozen_stages)
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval

        layers: List[nn.Module] = []
        self.stage_ends = []  # indices in `features`
        channels = 3
        for i in range(num_stages):
            for _ in range(self.arch_settings[depth][i]):
                layers.append(
                    ConvModule(
                        channels,
                        min(64 * 2**i, 512),
                        3,
                        padding=dilations[i],
                        dilation=dilations[i],
                        bias=True,
                        conv_cfg=conv_cfg,
                        norm_cfg=norm_cfg,
                        act_cfg=act_cfg))
                channels = min(64 * 2**i, 512)
            if i + 1 < num_stages or with_last_pool:
                layers.append(nn.MaxPool2d(kernel_size=2, stride=2, ceil_mode=ceil_mode))
            self.stage_ends.append(len(layers))
        self.features = nn.Sequential(*layers)
        self.prediction_rows: Dict[str, Rows] = {}
        if has_classifier:
            self.num_classes = num_classes
            self.classifier = nn.Sequential(
                nn.Linear(512 * 7 * 7, 4096), nn.ReLU(True), nn.Dropout(), nn.Linear(4096, 4096),
                nn.ReLU(True), nn.Dropout(), nn.Linear(4096, num_classes))
            self.prediction_rows = {'classifier.6': Rows()}

    def _check(self, depth, num_stages, dilations, out_indices, has_classifier,
               frozen_stages) -> None:
        if depth not in self.arch_settings:
            raise ValueError(f'VGG: depth is {depth!r}; write one of 11, 13, 16, 19')
        if not 1 <= num_stages <= 5:
            raise ValueError(f'VGG: num_stages is {num_stages}; write 1 to 5')
        if len(dilations) != num_stages:
            raise ValueError(
                f'VGG: dilations={dilations} for num_stages={num_stages}; give one number per stage'
            )
        # In V2 one more than the last stage means the classifier, whose output is returned anyway.
        last = num_stages if has_classifier else num_stages - 1
        if not all(0 <= index <= last for index in out_indices):
            raise ValueError(
                f'VGG: out_indices={out_indices}, but the stages are 0 to {num_stages - 1}')
        if frozen_stages > num_stages:
            raise ValueError(f'VGG: frozen_stages is {frozen_stages} of {num_stages} stages')

    def forward(self, x: Tensor) -> Tuple[Tensor, ...]:
        """Return the stages `out_indices`, then logits [B, K] of the classifier if any: x [B, 3, H, W]."""
        outputs = []
        start = 0
        for i, end in enumerate(self.stage_ends):
            x = self.features[start:end](x)
            start = end
            if i in self.out_indices:
                outputs.append(x)
        if self.prediction_rows:
            outputs.append(self.classifier(x.flatten(1)))
        return tuple(outputs)

    def train(self, mode: bool = True) -> 'VGG':
        """Set training mode, except for frozen parts and batch norm statistics with `norm_eval`."""
        super().train(mode)
        if self.frozen_stages > 0:
            freeze(self.features[:self.stage_ends[self.frozen_stages - 1]])
        if mode and self.norm_eval:
            keep_statistics(self)
        return self
