"""Report what a checkpoint holds and, with a config, what training from it would load; nothing is trained.

    python tools/model_converters/inspect_checkpoint.py maskrcnn_resnet50_fpn_coco.pth
    python tools/model_converters/inspect_checkpoint.py coco.pth configs/cityscapes/mask_rcnn_ft.py
"""
import argparse
import collections
import json
import os
import sys
from types import SimpleNamespace
from typing import Iterator

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))  # beside tools/

from mmdet_ft.config import load_config  # noqa: E402
from mmdet_ft.config.options import add_options  # noqa: E402
from mmdet_ft.engine.begin import read_arguments  # noqa: E402
from mmdet_ft.engine.errors import command  # noqa: E402
from mmdet_ft.outputs import Inputs  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('checkpoint', help='path, URL or torchvision://NAME')
    parser.add_argument(
        'config', nargs='?', help='config of the model that it would be loaded into')
    add_options(parser)
    parser.add_argument('--names', action='store_true', help='list every weight with its shape')
    parser.add_argument('--json', metavar='FILE', help='write the report with the config as json')
    args = parser.parse_args()
    if args.json and not args.config:
        parser.error('--json is the report of loading into a model: give a config')
    return args


# Parse arguments and read the config before importing torch: --help and wrong paths respond at once.
ARGS = read_arguments(parse_args) if __name__ == '__main__' else None

from mmdet_ft.apis import classes_of  # noqa: E402
from mmdet_ft.checkpoints import fitting  # noqa: E402
from mmdet_ft.checkpoints.input_format import read_input_format  # noqa: E402
from mmdet_ft.checkpoints.input_format import ANSWER_TO_GREY_LEVELS, input_scale
from mmdet_ft.checkpoints.reading import Checkpoint, read  # noqa: E402
from mmdet_ft.checkpoints.report import find_input_format  # noqa: E402
from mmdet_ft.engine.config_check.check import prepare  # noqa: E402
from mmdet_ft.engine.models.build import build_model  # noqa: E402
from mmdet_ft.parts import part_of  # noqa: E402


def describe(checkpoint: Checkpoint) -> Iterator[str]:
    """Yield lines on what is known without a model."""
    weights, origin, meta = checkpoint.state_dict, checkpoint.origin, checkpoint.meta
    yield f'{checkpoint.source}: {origin.kind}'
    for change in origin.changes:
        yield f'  on the way: {change}'
    kinds = collections.Counter(
        str(value.dtype).replace('torch.', '') for value in weights.values())
    size = sum(value.numel() * value.element_size() for value in weights.values())
    yield (
        f'  weights: {len(weights)}, {sum(value.numel() for value in weights.values()):,} numbers, '
        f'{size / 2**20:.1f} MiB ({", ".join(f"{count} {kind}" for kind, count in kinds.items())})')
    parts = collections.Counter(map(part_of, weights))
    yield '  parts: ' + ', '.join(f'{part} {count}' for part, count in parts.items())
    classes = meta.get('CLASSES')
    if classes:
        rest = ', ...' if len(classes) > 8 else ''
        yield f'  classes: {len(classes)}: {", ".join(map(str, classes[:8]))}{rest}'
    known = ('mmdet_version', 'mmcls_version', 'mmengine_version', 'epoch', 'iter', 'time', 'seed')
    text = [f'{key} {meta[key]}' for key in known if key in meta]
    if text:
        yield '  meta: ' + ', '.join(text)
    facts = find_input_format(meta, origin)
    if facts.mean:
        yield (
            f'  trained on {"RGB" if facts.to_rgb else "BGR"} images with mean {list(facts.mean)} '
            f'and std {list(facts.std or ())}' + (f', style {facts.style}' if facts.style else ''))
    else:
        scale = input_scale(weights)
        if scale is not None:
            yield (
                f'  its first convolution answers to a unit of its input by {scale:.3g}: trained on '
                f'{"images divided by their std" if scale > ANSWER_TO_GREY_LEVELS else "gray levels (std 1)"}'
            )
    for advice in origin.advice:
        yield f'  note: {advice}'


@command
def main() -> None:
    args = ARGS or parse_args()
    cfg = load_config(args.config, args.cfg_options) if args.config is not None else None
    if args.json:
        layers = cfg.layers if cfg is not None else ()
        Inputs([args.checkpoint,
                *(layer.path for layer in layers)]).require_free(args.json, '--json')
    checkpoint = read(args.checkpoint)
    print('\n'.join(describe(checkpoint)))
    if args.names:
        for name, value in checkpoint.state_dict.items():
            print(f'  {name} {tuple(value.shape)}')
    if cfg is None:
        return
    cfg, notes = prepare(cfg, for_training=False)
    for note in notes:
        print(f'note: {note}')
    stated = cfg.get('load_from')
    begin = fitting.parse_load_from({
        **stated, 'checkpoint': args.checkpoint
    } if isinstance(stated, dict) else args.checkpoint)
    classes, palette = classes_of(cfg, None)
    model = build_model(cfg.model, SimpleNamespace(CLASSES=classes, PALETTE=palette))
    report = fitting.fit(model, checkpoint, begin.strict, begin.heads, begin.aliases,
                         read_input_format(cfg))
    print(f'into the {type(model).__name__} of {args.config}:\n{report}')
    if args.json:
        with open(args.json, 'w', encoding='utf-8') as file:
            json.dump(report.as_json(), file, indent=1)


if __name__ == '__main__':
    main()
