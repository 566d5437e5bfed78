"""Write a trained model as an ONNX file, and prove that both give the same."""
import dataclasses
import os
from argparse import Namespace
from typing import Any, List, Tuple

from mmdet_ft.apis import inference_detector, init_detector, show_result_pyplot
from mmdet_ft.checkpoints.reading import read
from mmdet_ft.deploy import preparation
from mmdet_ft.deploy.export import proof, writing
from mmdet_ft.deploy.export.images import images_of, test_dataset
from mmdet_ft.deploy.runtime import open_model
from mmdet_ft.engine.config_check.check import prepare
from mmdet_ft.errors import UserError
from mmdet_ft.evaluation.table_output import table_text
from mmdet_ft.inference.build import config_of
from mmdet_ft.outputs import Inputs, require_folder
from mmdet_ft.visualization import has_display


def main(args: Namespace) -> None:
    if args.show and not has_display():
        raise UserError('--show: there is no display here')
    config = config_of(args.config, None if args.config else read(args.checkpoint))
    if args.cfg_options:
        config.merge_from_dict(args.cfg_options)
    named = args.test_img or ([args.input_img] if args.input_img else [])
    inputs = Inputs([args.checkpoint, *(layer.path for layer in config.layers), *named])
    for path in (args.output_file, f'{args.output_file}.unproven'):
        inputs.require_free(path, 'the exported file')
    folder = os.path.dirname(os.path.abspath(args.output_file))
    require_folder(folder, 'the exported file')
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


def settings_of(args: Namespace) -> writing.ExportSettings:
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
