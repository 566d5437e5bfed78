"""Files of Megvii's YOLOX, the repository of its authors."""
from typing import Optional

from mmdet_ft.checkpoints.formats.origin import (Converted, File, Origin, Rules, coco_classes, has,
                                                 rename)
from mmdet_ft.checkpoints.input_format import InputFormat


def _csp(theirs: str, ours: str) -> Rules:
    """Return rename rules for a CSPLayer, whose names are given as a pattern without groups and as text."""
    return (*((rf'{theirs}\.conv{i}\.(.+)', rf'{ours}.{layer}.\1')
              for i, layer in ((1, 'main_conv'), (2, 'short_conv'), (3, 'final_conv'))),
            (rf'{theirs}\.m\.(.+)', rf'{ours}.blocks.\1'))


DARK = r'backbone\.backbone\.dark'
# A depthwise convolution and the 1x1 one behind it, anywhere in the network.
DEPTHWISE: Rules = ((r'(.+)\.dconv\.(.+)', r'\1.depthwise_conv.\2'), (r'(.+)\.pconv\.(.+)',
                                                                      r'\1.pointwise_conv.\2'))
RULES: Rules = (
    (r'backbone\.backbone\.stem\.(.+)', r'backbone.stem.\1'),
    *((rf'{DARK}{i + 1}\.0\.(.+)', rf'backbone.stage{i}.0.\1') for i in range(1, 5)),
    (DARK + r'5\.1\.(.+)', r'backbone.stage4.1.\1'),  # SPPBottleneck
    *(rule for i in range(1, 4) for rule in _csp(rf'{DARK}{i + 1}\.1', f'backbone.stage{i}.1')),
    *_csp(DARK + r'5\.2', 'backbone.stage4.2'),
    (r'backbone\.lateral_conv0\.(.+)', r'neck.reduce_layers.0.\1'),
    (r'backbone\.reduce_conv1\.(.+)', r'neck.reduce_layers.1.\1'),
    (r'backbone\.bu_conv2\.(.+)', r'neck.downsamples.0.\1'),
    (r'backbone\.bu_conv1\.(.+)', r'neck.downsamples.1.\1'),
    *_csp(r'backbone\.C3_p4', 'neck.top_down_blocks.0'),
    *_csp(r'backbone\.C3_p3', 'neck.top_down_blocks.1'),
    *_csp(r'backbone\.C3_n3', 'neck.bottom_up_blocks.0'),
    *_csp(r'backbone\.C3_n4', 'neck.bottom_up_blocks.1'),
    (r'head\.stems\.(.+)', r'neck.out_convs.\1'),
    (r'head\.(cls|reg)_convs\.(.+)', r'bbox_head.multi_level_\1_convs.\2'),
    (r'head\.(cls|reg|obj)_preds\.(.+)', r'bbox_head.multi_level_conv_\1.\2'),
)
NAMES = ('backbone.backbone.stem.conv.conv.weight', 'backbone.C3_p4.conv1.conv.weight',
         'head.stems.0.conv.weight', 'head.cls_preds.0.weight')
PIXELS = InputFormat(False, (0., 0., 0.), (1., 1., 1.))  # BGR, 0..255
SIZES = {16: 'nano', 24: 'tiny', 32: 's', 48: 'm', 64: 'l', 80: 'x'}  # by channels of the stem


def yolox(file: File) -> Optional[Converted]:
    """Convert YOLOX on CSPDarknet, also fine-tuned; the one on Darknet-53 has no such neck in V2."""
    given = file.state_dict
    if not has(given, NAMES):
        return None
    size = SIZES.get(len(given[NAMES[0]]))
    config = f'configs/yolox/yolox_{size}_8x8_300e_coco.py' if size else 'configs/yolox/'
    advice = ('trained on BGR images in 0..255, padded with 114, as in '
              f'{config}; the first release (0.0.1) on normalized RGB', )
    classes = coco_classes()[0] if len(given[NAMES[3]]) == 80 else None
    return rename(rename(given, DEPTHWISE),
                  RULES), Origin("Megvii's YOLOX", ('names as V2 has them', ), advice, classes,
                                 PIXELS)
