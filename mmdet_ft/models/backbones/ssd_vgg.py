"""VGG as the backbone of SSD (Single Shot MultiBox Detector, sec. 2.1)."""
from typing import Dict, List, Optional, Sequence, Tuple, Union

from torch import Tensor, nn

from mmdet_ft.models.backbones.vgg import VGG
from mmdet_ft.models.base_module import BaseModule, InitCfg
from mmdet_ft.registry import MODELS


@MODELS.register_module()
class SSDVGG(BaseModule):
    """VGG whose linear layers are convolutions: a dilated one of 1024 channels and a 1x1.

    V2's arguments and state_dict: every layer of `features` is counted, activations too.

    Args:
        depth: 11, 13, 16 or 19.
        with_last_pool: whether the last stage has its pooling.
        ceil_mode: of the poolings.
        out_indices: has no effect, as in V2.
        out_feature_indices: layers whose output is returned.
        pretrained: older form of `init_cfg=dict(type='Pretrained', checkpoint=...)`.
        input_size, l2_norm_scale: have no effect, as in V2; see SSDNeck.

    Raises ValueError for an unsupported depth and for layers that do not exist.
    """

    def __init__(self,
                 depth: int,
                 with_last_pool: bool = False,
                 ceil_mode: bool = True,
                 out_indices: Sequence[int] = (3, 4),
                 out_feature_indices: Sequence[int] = (22, 34),
                 pretrained: Optional[str] = None,
                 init_cfg: InitCfg = None,
                 input_size: Optional[int] = None,
                 l2_norm_scale: Optional[float] = None):
        if depth not in VGG.arch_settings:
            raise ValueError(f'SSDVGG: depth is {depth!r}; write one of 11, 13, 16, 19')
        if pretrained is not None and init_cfg is not None:
            raise ValueError('SSDVGG: pretrained and init_cfg both say how the weights begin; '
                             'remove pretrained')
        if pretrained is not None:
            init_cfg = dict(type='Pretrained', checkpoint=pretrained)
        super().__init__(init_cfg or [
            dict(type='Kaiming', layer='Conv2d'),
            dict(type='Constant', val=1, layer='BatchNorm2d'),
            dict(type='Normal', std=0.01, layer='Linear')
        ])
        stages = VGG.arch_settings[depth]
        self.features = nn.Sequential(*_layers_of_stages(stages, with_last_pool, ceil_mode),
                                      *_layers_instead_of_linear())
        self.numbered = _numbers_of_convolutions(stages)
        if not all(0 <= index < len(self.features) for index in out_feature_indices):
            raise ValueError(f'SSDVGG: out_feature_indices={tuple(out_feature_indices)}, but the '
                             f'layers are 0 to {len(self.features) - 1}')
        self.out_feature_indices = tuple(out_feature_indices)

    def forward(self, x: Tensor) -> Union[Tensor, Tuple[Tensor, ...]]:
        """Return the layers `out_feature_indices`, [B, C, h, w] each; only the map if there is one.

        x: [B, 3, H, W].
        """
        outputs: List[Tensor] = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.out_feature_indices:
                outputs.append(x)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def rename_weights(self, state_dict: Dict[str, Tensor]) -> Dict[str, Tensor]:
        """Rename weights from a classifier's names, `features.N.conv.weight`, to those of this one; keep others."""
        renamed = {}
        for name, value in state_dict.items():
            start, _, rest = name.partition('.conv.')
            renamed[f'{self.numbered[start]}.{rest}' if rest and start in
                    self.numbered else name] = value
        return renamed


def _layers_of_stages(stages: Sequence[int], with_last_pool: bool,
                      ceil_mode: bool) -> List[nn.Module]:
    """Return the layers of VGG; the last pooling may be left out."""
    layers: List[nn.Module] = []
    channels = 3
    for number, num_convs in enumerate(stages):
        width = min(64 * 2**number, 512)
        for _ in range(num_convs):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
        layers.append(nn.MaxPool2d(2, 2, ceil_mode=ceil_mode))
    return layers if with_last_pool else layers[:-1]


def _layers_instead_of_linear() -> List[nn.Module]:
    return [
        nn.MaxPool2d(3, 1, padding=1),
        nn.Conv2d(512, 1024, 3, padding=6, dilation=6),
        nn.ReLU(inplace=True),
        nn.Conv2d(1024, 1024, 1),
        nn.ReLU(inplace=True)
    ]


def _numbers_of_convolutions(stages: Sequence[int]) -> Dict[str, str]:
    """Return {name in a classifier's VGG: name here}; a convolution there counts with its activation."""
    names: Dict[str, str] = {}
    theirs = ours = 0
    for num_convs in stages:
        for _ in range(num_convs):
            names[f'features.{theirs}'] = f'features.{ours}'
            theirs, ours = theirs + 1, ours + 2
        theirs, ours = theirs + 1, ours + 1  # the pooling
    return names
