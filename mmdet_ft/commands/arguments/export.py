"""Write a trained model as an ONNX file, and prove that both give the same.

    %(prog)s work_dirs/pets/latest.pth --out pets.onnx

The checkpoint has its config and classes. The file appears only if its results on images of data.test agree with the
model's. It takes any number of uint8 images of any size, and needs no PyTorch to run: see docs/deploy.md.
"""
from argparse import ArgumentParser, Namespace

from mmdet_ft.commands.arguments import pytorch2onnx
from mmdet_ft.config.options import add_options


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('checkpoint', help='checkpoint of a training run (path or URL)')
    parser.add_argument(
        '--out', dest='output_file', required=True, metavar='FILE', help='file to write: .onnx')
    parser.add_argument(
        '--config', help='config, where the checkpoint does not carry the right one')
    add_options(parser)
    pytorch2onnx.add_form(parser)
    parser.add_argument(
        '--opset',
        dest='opset_version',
        type=int,
        default=17,
        help='of the operators: 16 to 20 (17)')
    pytorch2onnx.add_comparison(parser)
    parser.set_defaults(input_img=None)


def check_arguments(parser: ArgumentParser, args: Namespace) -> None:
    """Refuse another kind of file, and shapes and numbers outside their ranges."""
    if not args.output_file.lower().endswith('.onnx'):
        parser.error(f'--out {args.output_file}: the name of the file ends in .onnx')
    pytorch2onnx.check_form(parser, args)
