"""Checks of the order of transforms: failures in the first batch, and boxes that silently do not
follow the image.

A transform declares what it moves, see mmdet_ft.datasets.pipelines.shared.moves.
"""
from typing import Any, Dict, Iterator, List, Sequence, Tuple

from mmdet_ft.datasets.pipelines.shared.moves import (Step, collected_kinds, find_unmoved_objects,
                                                      flatten, moved_by)
from mmdet_ft.engine.config_check.mistakes import Findings, listed, parts_of
from mmdet_ft.registry import PIPELINES

TRUTH = {
    'gt_bboxes': 'with_bbox',
    'gt_labels': 'with_label',
    'gt_masks': 'with_mask',
    'gt_semantic_seg': 'with_seg'
}


def check_pipelines(found: Findings) -> None:
    """Check each pipeline for annotations left unmoved, and the order of one of shipped transforms only."""
    asked = {
        key
        for _, _, cls in parts_of(found.config.model)
        for key in getattr(cls, 'learns_from', ())
    }
    needed = [key for key in TRUTH
              if key in asked]  # of a detector; a classifier has gt_label from its dataset
    if needed:
        _check_training_mode(found, found.config.data.get('train'), 'data.train')
    for split in ('train', 'val', 'test'):
        _check_mixed(found, found.config.data.get(split), f'data.{split}')
        for steps in _flows(found.config.data.get(split), f'data.{split}'):
            _check_moves(found, steps, is_test=bool(needed) and split != 'train')
        for steps, path in _pipelines(found.config.data.get(split), f'data.{split}'):
            if not all(_is_known(step) for step in steps):
                continue
            if split == 'train':
                _check_training(found, steps, path, needed)
            elif needed:
                _check_test(found, steps, path)
            if 'proposals' in asked:
                _check_proposals(found, steps, path)


def _check_training_mode(found: Findings, split: object, path: str) -> None:
    """Note training datasets of a detector that would give no annotations."""
    if isinstance(split, (list, tuple)):
        for index, part in enumerate(split):
            _check_training_mode(found, part, f'{path}.{index}')
    elif isinstance(split, dict):
        if split.get('test_mode'):
            found.report(f'{path}.test_mode',
                         'a dataset in test_mode gives no annotations to learn from; leave it out')
        for key in ('dataset', 'datasets'):
            _check_training_mode(found, split.get(key), f'{path}.{key}')


def _check_mixed(found: Findings, split: object, path: str) -> None:
    """Note transforms that mix several images but get only one from the dataset."""
    if isinstance(split, (list, tuple)):
        for index, part in enumerate(split):
            _check_mixed(found, part, f'{path}.{index}')
    elif isinstance(split, dict):
        steps = list(flatten(split.get('pipeline'), f'{path}.pipeline'))
        if any(hasattr(step.kind, 'get_indexes') for step in steps):
            _check_what_is_mixed(found, split.get('dataset'), f'{path}.dataset')
        for step in steps:
            if hasattr(step.kind, 'get_indexes') and ('dataset' not in split or step.owner):
                found.report(
                    step.path,
                    f'{step.name} mixes several images, and here it is given one. Write it into the pipeline of a '
                    f"wrapper: dict(type='MultiImageMixDataset', dataset=dict(...), pipeline=[dict(type={step.name!r}, "
                    f'...), ...]); the pipeline of dataset loads images and annotations alone')
        for key in ('dataset', 'datasets'):
            _check_mixed(found, split.get(key), f'{path}.{key}')


def _check_what_is_mixed(found: Findings, inner: object, path: str) -> None:
    """Note transforms after which images are tensors and can no longer be mixed."""
    if isinstance(inner, (list, tuple)):
        for index, part in enumerate(inner):
            _check_what_is_mixed(found, part, f'{path}.{index}')
    elif isinstance(inner, dict):
        late = [
            step for step in flatten(inner.get('pipeline'), f'{path}.pipeline')
            if step.name in ('DefaultFormatBundle', 'ImageToTensor', 'ToTensor', 'Collect')
        ]
        if late:
            found.report(
                late[0].path,
                f'{listed([step.name for step in late])} come before the images are mixed; they belong after it: '
                f'the pipeline of this dataset loads images and annotations alone; move them to the end of the '
                f'pipeline of the MultiImageMixDataset around it')
        for key in ('dataset', 'datasets'):
            _check_what_is_mixed(found, inner.get(key), f'{path}.{key}')


def _flows(split: object, path: str) -> Iterator[List[Step]]:
    """Yield the transforms of each sample: the dataset's pipeline, then those of its wrappers."""
    if isinstance(split, (list, tuple)):
        for index, part in enumerate(split):
            yield from _flows(part, f'{path}.{index}')
    elif isinstance(split, dict):
        own = list(flatten(split.get('pipeline'), f'{path}.pipeline'))
        inner = [
            steps for key in ('dataset', 'datasets')
            for steps in _flows(split.get(key), f'{path}.{key}')
        ]
        yield from ([*steps, *own] for steps in inner or [[]])


def _check_moves(found: Findings, steps: Sequence[Step], is_test: bool) -> None:
    """Note annotations that would not follow the transforms of the image.

    is_test: of a detector, whose boxes are reported in the original image.
    """
    text = {mistake.path for mistake in found.mistakes}
    loaded = {
        what
        for step in steps if hasattr(step.kind, 'loads_with')
        for what in step.kind.loads_with(step.arguments)
    }
    # with a custom loader only Collect shows what is loaded
    unknown = [what for what in collected_kinds(steps) if what not in loaded]
    for path, message in find_unmoved_objects(steps, unknown):
        if path not in text:
            text.add(path)
            found.report(path, message)
    for step in steps if is_test and not loaded else ():
        moves = moved_by(step.kind, step.arguments) or ()
        is_undone = getattr(step.kind, 'is_undone', not is_shipped(step.kind)) and 'bbox' in moves
        if 'img' in moves and not is_undone:  # a custom transform may move boxes without declaring it
            found.report(
                step.path,
                f'{step.name} changes the geometry of the image, but a test reports boxes of the original one: they '
                f'would '
                f'all be beside their objects. Take it out; Resize(img_scale=...), RandomFlip and Pad are undone'
            )


def _pipelines(split: object, path: str) -> Iterator[Tuple[List[Any], str]]:
    """Yield the pipelines that end in a batch: not those inside a wrapper with one of its own."""
    if isinstance(split, (list, tuple)):
        for index, part in enumerate(split):
            yield from _pipelines(part, f'{path}.{index}')
    elif isinstance(split, dict):
        if 'pipeline' in split:
            if split['pipeline'] and isinstance(split['pipeline'],
                                                (list, tuple)) and 'dataset' not in split:
                yield list(split['pipeline']), f'{path}.pipeline'
            return
        for key in ('dataset', 'datasets'):
            yield from _pipelines(split.get(key), f'{path}.{key}')


def _is_known(step: object) -> bool:
    is_compose = isinstance(step, dict) and step.get('type') == 'Compose'
    return not is_compose and is_shipped(PIPELINES.class_of(step))


def is_shipped(cls: Any) -> bool:
    """Return whether a transform is one of this package."""
    return str(getattr(cls, '__module__', '')).startswith('mmdet_ft.datasets.pipelines.')


def _name(step: Dict[str, Any]) -> str:
    return getattr(step['type'], '__name__', step['type'])


def _keys(step: Dict[str, Any]) -> Sequence[str]:
    keys = step.get('keys')
    return [key for key in keys if isinstance(key, str)] if isinstance(keys, (list, tuple)) else ()


def _check_training(found: Findings, steps: Sequence[Dict[str, Any]], path: str,
                    needed: Sequence[str]) -> None:
    names = [_name(step) for step in steps]
    if 'MultiScaleFlipAug' in names:
        return found.report(
            f'{path}.{names.index("MultiScaleFlipAug")}',
            'MultiScaleFlipAug makes the views of a test; in training write Resize, RandomFlip and the others by '
            'themselves, after LoadAnnotations')
    loader = names.index('LoadAnnotations') if 'LoadAnnotations' in names else None
    if names[-1] != 'Collect':
        keys = ['img', *needed] if needed else ['img', 'gt_label']
        return found.report(
            f'{path}.{len(steps) - 1}',
            f'the last transform is {names[-1]}; add dict(type=\'Collect\', keys={keys}) after it')
    keys = _keys(steps[-1])
    flags = steps[loader] if loader is not None else {}
    for key in keys:
        flag = TRUTH.get(key)
        default = flag in ('with_bbox', 'with_label') and loader is not None
        if flag and not flags.get(flag, default):
            found.report(
                f'{path}.{len(steps) - 1}.keys',
                f'Collect asks for {key!r}, which no transform makes; write dict(type=\'LoadAnnotations\', '
                f'with_bbox=True{"" if default or flag == "with_bbox" else f", {flag}=True"}) after LoadImageFromFile'
            )
    missing = [key for key in needed if key not in keys]
    if missing:
        return found.report(
            f'{path}.{len(steps) - 1}.keys',
            f'Collect leaves out {", ".join(missing)}, which the heads of the model learn from; add '
            f'{"it" if len(missing) == 1 else "them"} to keys')
    tensors = {key for step in steps if _name(step) == 'ToTensor' for key in _keys(step)}
    if needed and 'DefaultFormatBundle' not in names and not tensors.issuperset(needed[:2]):
        found.report(f'{path}.{len(steps) - 1}',
                     "no DefaultFormatBundle before Collect; add dict(type='DefaultFormatBundle')")


def _check_proposals(found: Findings, steps: Sequence[Dict[str, Any]], path: str) -> None:
    """Note what keeps the dataset's proposals from a detector that takes them."""
    owner = path.rpartition('.')[0]
    dataset: Any = found.config
    for key in owner.split('.'):
        dataset = dataset[int(key) if key.isdigit() else key]
    kind = found.config.model['type']
    if not dataset.get('proposal_file'):
        found.report(
            f'{owner}.proposal_file',
            f'is missing, and {kind} classifies the regions in it; write the results of an RPN: '
            "proposal_file='proposals.pkl'")
    flow = list(flatten(steps, path))
    if 'LoadProposals' not in [step.name for step in flow]:
        found.report(
            path, f"has no LoadProposals, and {kind} classifies proposals; add "
            "dict(type='LoadProposals') after LoadImageFromFile")
    collect = flow[-1]
    if collect.name == 'Collect' and 'proposals' not in collect.arguments.get('keys', ()):
        found.report(f'{collect.path}.keys',
                     f"leaves out 'proposals', which {kind} takes; add it to keys")


def _check_test(found: Findings, steps: Sequence[Dict[str, Any]], path: str) -> None:
    for index, step in enumerate(steps):
        if _name(step) == 'LoadAnnotations':
            return found.report(
                f'{path}.{index}',
                'a test gives no annotations to the pipeline: leave LoadAnnotations and the keys gt_... of Collect '
                'out, as a test_pipeline with MultiScaleFlipAug does')
    last = steps[-1]
    inside = last.get('transforms') if _name(last) == 'MultiScaleFlipAug' else [last]
    if isinstance(inside, (list, tuple)) and inside and _is_known(inside[-1]) and _name(
            inside[-1]) != 'Collect':
        found.report(
            path,
            f'the last transform is {_name(inside[-1])}; add dict(type=\'Collect\', keys=[\'img\']) '
            f'after it')
