"""Turn the .npz arrays of a classifier into a checkpoint.

    %(prog)s mobilenet_v2.npz mobilenet_v2.pth
    %(prog)s mobilenet_v2.npz mobilenet_v2_det.pth --layout mmdet

reads two kinds, recognized by their names:
    MobileNetV2 with torchvision's names (features.N..., classifier.1) and batch norm folded into the convolutions
    the CIFAR ResNet-20 to -110 with batch norm of its own (layer1.0.conv1, linear): ThinResNet_CIFAR

`--layout mmdet` gives the names that a detector's backbone has; there the file is read by
    init_cfg=dict(type='Pretrained', checkpoint='mobilenet_v2_det.pth', prefix='backbone.')

Folded batch norm comes back as one that changes nothing as long as its statistics stay: write norm_eval=True.
"""
from argparse import ArgumentParser


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('source', help='the .npz')
    parser.add_argument('target', help='the checkpoint to write')
    parser.add_argument(
        '--layout',
        choices=('mmcls', 'mmdet'),
        default='mmcls',
        help="whose names MobileNetV2's weights get")
