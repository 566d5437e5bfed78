"""Report what a checkpoint holds, and what training from it would load."""
import collections
import json
from argparse import Namespace
from types import SimpleNamespace
from typing import Iterator

from mmdet_ft.checkpoints import fitting
from mmdet_ft.checkpoints.input_format import ANSWER_TO_GREY_LEVELS, input_scale, read_input_format
from mmdet_ft.checkpoints.reading import Checkpoint, read
from mmdet_ft.checkpoints.report import find_input_format
from mmdet_ft.config.load import load_config
from mmdet_ft.engine.config_check.check import prepare
from mmdet_ft.engine.models.build import build_model
from mmdet_ft.inference.build import classes_of
from mmdet_ft.outputs import Inputs
from mmdet_ft.parts import part_of


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


def main(args: Namespace) -> None:
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
