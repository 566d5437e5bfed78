"""The order of transforms: what would fail in the first batch, or leave boxes silently where they were."""
from typing import Any, Dict, Iterator, List, Sequence, Tuple

from mmdet_ft.engine.checks.config.mistakes import Findings
from mmdet_ft.registry import PIPELINES

# They move what is on an image, and boxes and masks only if those are there already.
MOVING = {
    'Resize', 'RandomFlip', 'RandomCrop', 'RandomCenterCropPad', 'MinIoURandomCrop', 'Expand',
    'RandomAffine', 'RandomShift', 'Rotate', 'Shear', 'Translate', 'AutoAugment', 'Albu'
}
TRUTH = {
    'gt_bboxes': 'with_bbox',
    'gt_labels': 'with_label',
    'gt_masks': 'with_mask',
    'gt_semantic_seg': 'with_seg'
}


def check_pipelines(found: Findings) -> None:
    """Every pipeline of shipped transforms alone; what a user's own transform makes is not known."""
    roi_head = found.config.model.get('roi_head')
    needed = ['gt_bboxes', 'gt_labels'] if isinstance(roi_head, dict) else []
    if needed and roi_head.get('mask_head'):
        needed.append('gt_masks')
    for split in ('train', 'val', 'test'):
        for steps, path in _pipelines(found.config.data.get(split), f'data.{split}'):
            if not all(_is_known(step) for step in steps):
                continue
            if split == 'train':
                _check_training(found, steps, path, needed)
            elif needed:
                _check_test(found, steps, path)


def _pipelines(split: Any, path: str) -> Iterator[Tuple[List[Any], str]]:
    """Pipelines that end in a batch: not those inside a wrapper with one of its own."""
    if isinstance(split, (list, tuple)):
        for place, part in enumerate(split):
            yield from _pipelines(part, f'{path}.{place}')
    elif isinstance(split, dict):
        if 'pipeline' in split:
            if split['pipeline'] and isinstance(split['pipeline'],
                                                (list, tuple)) and 'dataset' not in split:
                yield list(split['pipeline']), f'{path}.pipeline'
            return
        for key in ('dataset', 'datasets'):
            yield from _pipelines(split.get(key), f'{path}.{key}')


def _is_known(step: Any) -> bool:
    kind = step.get('type') if isinstance(step, dict) else None
    cls = PIPELINES.get(kind, step) if isinstance(kind, str) else kind
    return kind != 'Compose' and str(getattr(cls, '__module__',
                                             '')).startswith('mmdet_ft.datasets.pipelines.')


def _name(step: Dict[str, Any]) -> str:
    return getattr(step['type'], '__name__', step['type'])


def _keys(step: Dict[str, Any]) -> Sequence[str]:
    keys = step.get('keys')
    return [key for key in keys if isinstance(key, str)] if isinstance(keys, (list, tuple)) else ()


def _check_training(found: Findings, steps: Sequence[Dict[str, Any]], path: str,
                    needed: Sequence[str]) -> None:
    names = [_name(step) for step in steps]
    if 'MultiScaleFlipAug' in names:
        return found.say(
            f'{path}.{names.index("MultiScaleFlipAug")}',
            'MultiScaleFlipAug makes the views of a test; in training Resize, RandomFlip and the others stand by '
            'themselves, after LoadAnnotations')
    loader = names.index('LoadAnnotations') if 'LoadAnnotations' in names else None
    early = [place for place, name in enumerate(names[:loader or 0]) if name in MOVING]
    if early:
        return found.say(
            f'{path}.{early[0]}',
            f'{names[early[0]]} stands before LoadAnnotations, so that boxes and masks would stay where they were; '
            f'put LoadAnnotations right behind LoadImageFromFile')
    if names[-1] != 'Collect':
        keys = ['img', *needed] if needed else ['img', 'gt_label']
        return found.say(
            f'{path}.{len(steps) - 1}',
            f'the last transform is {names[-1]}; add dict(type=\'Collect\', keys={keys}) behind it')
    keys = _keys(steps[-1])
    flags = steps[loader] if loader is not None else {}
    for key in keys:
        flag = TRUTH.get(key)
        default = flag in ('with_bbox', 'with_label') and loader is not None
        if flag and not flags.get(flag, default):
            found.say(
                f'{path}.{len(steps) - 1}.keys',
                f'Collect asks for {key!r}, which no transform makes; write dict(type=\'LoadAnnotations\', '
                f'with_bbox=True{"" if default or flag == "with_bbox" else f", {flag}=True"}) behind LoadImageFromFile'
            )
    missing = [key for key in needed if key not in keys]
    if missing:
        return found.say(
            f'{path}.{len(steps) - 1}.keys',
            f'Collect leaves out {", ".join(missing)}, which the heads of the model learn from; add '
            f'{"it" if len(missing) == 1 else "them"} to keys')
    tensors = {key for step in steps if _name(step) == 'ToTensor' for key in _keys(step)}
    if needed and 'DefaultFormatBundle' not in names and not tensors.issuperset(needed[:2]):
        found.say(f'{path}.{len(steps) - 1}',
                  "no DefaultFormatBundle before Collect; add dict(type='DefaultFormatBundle')")


def _check_test(found: Findings, steps: Sequence[Dict[str, Any]], path: str) -> None:
    for place, step in enumerate(steps):
        if _name(step) == 'LoadAnnotations':
            return found.say(
                f'{path}.{place}',
                'a test gives no annotations to the pipeline: leave LoadAnnotations and the keys gt_... of Collect '
                'out, as a test_pipeline with MultiScaleFlipAug does')
    last = steps[-1]
    inside = last.get('transforms') if _name(last) == 'MultiScaleFlipAug' else [last]
    if isinstance(inside, (list, tuple)) and inside and _is_known(inside[-1]) and _name(
            inside[-1]) != 'Collect':
        found.say(
            path,
            f'the last transform is {_name(inside[-1])}; add dict(type=\'Collect\', keys=[\'img\']) '
            f'behind it')
