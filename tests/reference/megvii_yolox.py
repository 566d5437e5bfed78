"""YOLOX layer by layer under the names of its authors' files; weights are drawn when a layer is first met."""
from typing import Dict, List, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor


class MegviiYOLOX:
    """A network of some depth, width and number of classes; `weights` is its state_dict after one forward."""

    def __init__(self, depth: float, width: float, num_classes: int, depthwise: bool = False):
        self.blocks = round(3 * depth)  # of the shortest stages
        self.width, self.num_classes, self.depthwise = width, num_classes, depthwise
        self.weights: Dict[str, Tensor] = {}

    def draw(self, name: str, low: float, high: float, *shape: int) -> Tensor:
        self.weights[name] = torch.empty(shape).uniform_(low, high)
        return self.weights[name]

    def conv(self,
             name: str,
             x: Tensor,
             channels: int,
             size: int = 1,
             stride: int = 1,
             groups: int = 1) -> Tensor:
        """Convolution, batch norm and SiLU."""
        limit = (3 * groups / (x.shape[1] * size**2))**.5
        weight = self.draw(f'{name}.conv.weight', -limit, limit, channels, x.shape[1] // groups,
                           size, size)
        x = F.conv2d(x, weight, None, stride, size // 2, groups=groups)
        norm = [
            self.draw(f'{name}.bn.{part}', low, high, channels)
            for part, low, high in (('running_mean', -.1, .1), ('running_var', .8, 1.2),
                                    ('weight', .8, 1.6), ('bias', -.5, .5))
        ]
        return F.silu(F.batch_norm(x, *norm, eps=1e-3))

    def conv3(self, name: str, x: Tensor, channels: int, stride: int = 1) -> Tensor:
        if not self.depthwise:
            return self.conv(name, x, channels, 3, stride)
        x = self.conv(f'{name}.dconv', x, x.shape[1], 3, stride, groups=x.shape[1])
        return self.conv(f'{name}.pconv', x, channels)

    def csp(self, name: str, x: Tensor, channels: int, blocks: int, add: bool) -> Tensor:
        one, two = (self.conv(f'{name}.conv{i}', x, channels // 2) for i in (1, 2))
        for i in range(blocks):
            y = self.conv(f'{name}.m.{i}.conv1', one, channels // 2)
            y = self.conv3(f'{name}.m.{i}.conv2', y, channels // 2)
            one = one + y if add else y
        return self.conv(f'{name}.conv3', torch.cat([one, two], 1), channels)

    def pool(self, name: str, x: Tensor) -> Tensor:
        channels = x.shape[1]
        x = self.conv(f'{name}.conv1', x, channels // 2)
        maxima = [F.max_pool2d(x, size, 1, size // 2) for size in (5, 9, 13)]
        return self.conv(f'{name}.conv2', torch.cat([x, *maxima], 1), channels)

    def backbone(self, image: Tensor) -> List[Tensor]:
        """Strides 8, 16 and 32."""
        base = int(64 * self.width)
        corners = [image[..., y::2, x::2] for y, x in ((0, 0), (1, 0), (0, 1), (1, 1))]
        x = self.conv('backbone.backbone.stem.conv', torch.cat(corners, 1), base, 3)
        found = []
        for stage, times in ((2, 1), (3, 3), (4, 3), (5, 1)):
            name, channels = f'backbone.backbone.dark{stage}', base * 2**(stage - 1)
            x = self.conv3(f'{name}.0', x, channels, 2)
            x = self.pool(f'{name}.1', x) if stage == 5 else x
            last = f'{name}.{2 if stage == 5 else 1}'
            x = self.csp(last, x, channels, times * self.blocks, add=stage < 5)
            found.append(x)
        return found[1:]

    def neck(self, image: Tensor) -> List[Tensor]:
        fine, middle, coarse = self.backbone(image)
        a, b, c = (x.shape[1] for x in (fine, middle, coarse))

        def csp(name: str, channels: int, *parts: Tensor) -> Tensor:
            return self.csp(
                f'backbone.{name}', torch.cat(parts, 1), channels, self.blocks, add=False)

        coarse = self.conv('backbone.lateral_conv0', coarse, b)
        x = csp('C3_p4', b, F.interpolate(coarse, scale_factor=2.), middle)
        middle = self.conv('backbone.reduce_conv1', x, a)
        fine = csp('C3_p3', a, F.interpolate(middle, scale_factor=2.), fine)
        middle = csp('C3_n3', b, self.conv3('backbone.bu_conv2', fine, a, 2), middle)
        return [
            fine, middle,
            csp('C3_n4', c, self.conv3('backbone.bu_conv1', middle, b, 2), coarse)
        ]

    def __call__(self, image: Tensor) -> Tuple[List[Tensor], List[Tensor], List[Tensor]]:
        """Logits of classes, boxes and logits of objects of each level: [B, K, 4 or 1, h, w]."""
        found: Dict[str, List[Tensor]] = dict(cls=[], reg=[], obj=[])
        channels = int(256 * self.width)
        for level, x in enumerate(self.neck(image)):
            x = self.conv(f'head.stems.{level}', x, channels)
            towers = {}
            for kind in ('cls', 'reg'):
                y = x
                for i in range(2):
                    y = self.conv3(f'head.{kind}_convs.{level}.{i}', y, channels)
                towers[kind] = y
            for kind, rows in (('cls', self.num_classes), ('reg', 4), ('obj', 1)):
                name = f'head.{kind}_preds.{level}'
                weight = self.draw(f'{name}.weight', -.3, .3, rows, channels, 1, 1)
                bias = self.draw(f'{name}.bias', -.3, .3, rows)
                found[kind].append(
                    F.conv2d(towers['cls' if kind == 'cls' else 'reg'], weight, bias))
        return found['cls'], found['reg'], found['obj']
