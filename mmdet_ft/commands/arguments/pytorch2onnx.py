"""Write a trained model as an ONNX file, and prove that both give the same.

    %(prog)s config.py work_dirs/pets/latest.pth --output-file pets.onnx

The file appears only if its results on images of data.test agree with the model's.
"""
from argparse import SUPPRESS, ArgumentParser, Namespace

from mmdet_ft.commands.arguments import shared


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    shared.add_config(parser)
    parser.add_argument('checkpoint', help='checkpoint of the model in it')
    parser.add_argument('--output-file', default='tmp.onnx', help='file to write (tmp.onnx)')
    add_form(parser)
    parser.add_argument('--opset-version', type=int, default=17, help='of the operators: 16 to 20')
    add_comparison(parser)
    parser.add_argument('--input-img', help=SUPPRESS)  # V2's names of what is the default here
    for name in ('--dynamic-export', '--verify', '--simplify', '--skip-postprocess'):
        parser.add_argument(name, action='store_true', help=SUPPRESS)
    for name in ('--mean', '--std', '--dataset'):
        parser.add_argument(name, nargs='+', help=SUPPRESS)


def add_form(parser: ArgumentParser) -> None:
    """Add what the file takes and gives."""
    parser.add_argument(
        '--shape',
        type=int,
        nargs='+',
        help='height and width of the image that is recorded; of every input with --static')
    parser.add_argument(
        '--static', action='store_true', help='one image of one size, not any batch and size')
    parser.add_argument(
        '--preprocess-outside',
        action='store_true',
        help="the file takes normalized, padded float images as V2's did, and their sizes")
    parser.add_argument(
        '--paste-masks',
        action='store_true',
        help='masks of the whole image, not only inside the boxes')


def add_comparison(parser: ArgumentParser) -> None:
    """Add the images that the file is compared on."""
    parser.add_argument(
        '--no-verify', action='store_true', help='write the file without a comparison')
    parser.add_argument(
        '--test-img',
        nargs='+',
        metavar='IMAGE',
        help='images to compare on; those of data.test by default')
    parser.add_argument(
        '--num-images', type=int, default=20, help='images of data.test to compare on (20)')
    parser.add_argument('--batch-size', type=int, default=1, help='images at a time, of one size')
    parser.add_argument('--show', action='store_true', help='show both results of the first image')


def check_arguments(parser: ArgumentParser, args: Namespace) -> None:
    """Refuse shapes and numbers outside their ranges."""
    if args.skip_postprocess:
        parser.error('--skip-postprocess: nms is a standard operator, and part of every file')
    check_form(parser, args)


def check_form(parser: ArgumentParser, args: Namespace) -> None:
    """Refuse shapes and numbers outside their ranges."""
    if args.shape is not None and (len(args.shape) > 2 or min(args.shape) < 1):
        parser.error(f'--shape is height and width, or one number for both, not {args.shape}')
    if args.static and args.batch_size != 1:
        parser.error('--static: a file of fixed sizes takes one image at a time')
    if args.num_images < 1 or args.batch_size < 1:
        parser.error('--num-images and --batch-size are at least 1')
