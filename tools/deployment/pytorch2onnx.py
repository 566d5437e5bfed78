"""Command to write a trained detector or classifier as an ONNX file, and to prove that both give the same.

    python tools/deployment/pytorch2onnx.py config.py work_dirs/pets/latest.pth --output-file pets.onnx

The file appears only if its results on images of data.test agree with the model's.
"""
import argparse
import dataclasses
import os
import sys
from typing import Any, List, Tuple

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))  # beside tools/

from mmdet_ft.config import load_config  # noqa: E402
from mmdet_ft.config.options import add_options  # noqa: E402
from mmdet_ft.engine.begin import read_arguments  # noqa: E402
from mmdet_ft.engine.errors import UserError, command  # noqa: E402
from mmdet_ft.outputs import Inputs, require_folder  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint of the model in it')
    parser.add_argument('--output-file', default='tmp.onnx', help='file to write (tmp.onnx)')
    parser.add_argument(
        '--shape',
        type=int,
        nargs='+',
        help='height and width of the image that is recorded; of every input with --static')
    parser.add_argument('--opset-version', type=int, default=17, help='of the operators: 16 to 20')
    parser.add_argument(
        '--static', action='store_true', help='one image of one size, not any batch and size')
    parser.add_argument('--dynamic-export', action='store_true', help='the default')
    parser.add_argument(
        '--preprocess-outside',
        action='store_true',
        help="the file takes normalized, padded float images as V2's did, and their sizes")
    parser.add_argument(
        '--paste-masks',
        action='store_true',
        help='masks of the whole image, not only inside the boxes')
    parser.add_argument('--verify', action='store_true', help='the default')
    parser.add_argument(
        '--no-verify', action='store_true', help='write the file without a comparison')
    parser.add_argument(
        '--test-img', nargs='+', help='images to compare on; those of data.test by default')
    parser.add_argument('--input-img', help='older spelling of an image to compare on')
    parser.add_argument(
        '--num-images', type=int, default=20, help='images of data.test to compare on (20)')
    parser.add_argument('--batch-size', type=int, default=1, help='images at a time, of one size')
    parser.add_argument('--show', action='store_true', help='show both results of the first image')
    parser.add_argument(
        '--simplify', action='store_true', help='no effect: ONNX Runtime simplifies what it loads')
    for name in ('--mean', '--std', '--dataset'):
        parser.add_argument(name, nargs='+', help='no effect: the config has it')
    parser.add_argument('--skip-postprocess', action='store_true', help=argparse.SUPPRESS)
    add_options(parser)
    args = parser.parse_args()
    if args.skip_postprocess:
        parser.error('--skip-postprocess: nms is a standard operator, and part of every file')
    if args.shape is not None and (len(args.shape) > 2 or min(args.shape) < 1):
        parser.error(f'--shape is height and width, or one number for both, not {args.shape}')
    if args.static and args.batch_size != 1:
        parser.error('--static: a file of fixed sizes takes one image at a time')
    if args.num_images < 1 or args.batch_size < 1:
        parser.error('--num-images and --batch-size are at least 1')
    return args


# Parse arguments and read the config before importing torch: --help and wrong paths respond at once.
ARGS = read_arguments(parse_args) if __name__ == '__main__' else None

from mmdet_ft.apis import inference_detector, init_detector, show_result_pyplot  # noqa: E402
from mmdet_ft.deploy import preparation  # noqa: E402
from mmdet_ft.deploy.export import proof, writing  # noqa: E402
from mmdet_ft.deploy.export.images import images_of, test_dataset  # noqa: E402
from mmdet_ft.deploy.runtime import open_model  # noqa: E402
from mmdet_ft.engine.config_check.check import prepare  # noqa: E402
from mmdet_ft.evaluation.table_output import table_text  # noqa: E402
from mmdet_ft.visualization import has_display  # noqa: E402


@command
def main() -> None:
    args = ARGS or parse_args()
    if args.show and not has_display():
        raise UserError('--show: there is no display here')
    config = load_config(args.config, args.cfg_options)
    named = args.test_img or ([args.input_img] if args.input_img else [])
    inputs = Inputs([args.checkpoint, *(layer.path for layer in config.layers), *named])
    for path in (args.output_file, f'{args.output_file}.unproven'):
        inputs.require_free(path, '--output-file')
    folder = os.path.dirname(os.path.abspath(args.output_file))
    require_folder(folder, '--output-file')
    os.makedirs(folder, exist_ok=True)
    cfg, _ = prepare(config, for_training=False)
    model = init_detector(cfg, args.checkpoint, device='cpu')
    settings = settings_of(args)
    facts = writing.read_input_format(model, model.cfg.data.test.pipeline, settings)
    text = model.cfg.pretty_text
    if args.no_verify:
        writing.export(model, args.output_file, facts, settings, text)
        print(f'wrote {args.output_file}, which was compared with nothing')
        return
    images = find_images(named, cfg, args.num_images)
    if args.shape is None and facts.task == 'classifier':
        settings = dataclasses.replace(settings, shape=shape_of(images[0], facts))
    unproven = f'{args.output_file}.unproven'
    writing.export(model, unproven, facts, settings, text)
    found = proof.compare(model, unproven, images, batch_size=args.batch_size)
    print(table(found))
    if args.show:
        show(model, unproven, images[0])
    proof.require_agreement(model, unproven, images, found, proof.Tolerance())
    os.replace(unproven, args.output_file)
    print(f'wrote {args.output_file}: opset {settings.opset}, {len(facts.classes)} classes, '
          f'compared on {len(images)} images')


def settings_of(args: argparse.Namespace) -> writing.ExportSettings:
    """Return how the command line asks for the file to be written."""
    shape = {} if args.shape is None else dict(shape=tuple((args.shape * 2)[:2]))
    return writing.ExportSettings(
        opset=args.opset_version,
        is_dynamic=not args.static,
        prepares=not args.preprocess_outside,
        pastes=args.paste_masks,
        **shape)


def find_images(named: List[str], cfg: Any, most: int) -> List[Any]:
    """Return paths or arrays of the images to compare on: those named, or the first of data.test."""
    for path in named:
        if not os.path.isfile(path):
            raise UserError(f'there is no image {path!r}')
    return named or images_of(test_dataset(cfg))[:most]


def shape_of(image: Any, facts: Any) -> Tuple[int, int]:
    """Return height and width of an image as the network takes it; some classifiers have one size."""
    pixels = preparation.read_image(image, 'the first image', is_gray=facts.is_gray)
    height, width = preparation.prepare(pixels, facts).pixels.shape[:2]
    return height, width


def table(found: proof.Proof) -> str:
    """Return the comparison as text, an image a line."""
    rows = [(os.path.basename(image.name), str(image.found), str(image.unmatched),
             f'{image.boxes:.1e}', f'{image.scores:.1e}', f'{100 * image.masks:.3f} %')
            for image in [*found.images, found.total]]
    header = ('image', 'results', 'differ', 'boxes, px', 'scores', 'mask pixels')
    return (f'{table_text(header, rows, last_row_apart=True)}\nmilliseconds an image: '
            f'PyTorch {found.model_ms:.1f}, ONNX Runtime {found.file_ms:.1f}')


def show(model: Any, path: str, image: Any) -> None:
    """Show the results of both in windows."""
    show_result_pyplot(model, image, inference_detector(model, image), title='PyTorch')
    show_result_pyplot(model, image, open_model(path)(image), title='ONNX Runtime')


if __name__ == '__main__':
    main()
