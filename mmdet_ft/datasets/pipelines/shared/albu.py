"""Transforms of the package albumentations."""
import copy
import inspect
from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np

from mmdet_ft.datasets.annotations.masks import BitmapMasks, PolygonMasks
from mmdet_ft.datasets.pipelines.shared.moves import refuse_objects
from mmdet_ft.registry import PIPELINES

PLACES = 'idx_mapper'  # a label of each box that holds its original index
BLANKING = ('Dropout', 'Erasing', 'NoOp', 'Masking'
            )  # ends of names in albumentations: boxes stay where they are
KEYMAP = {'img': 'image', 'gt_masks': 'masks', 'gt_bboxes': 'bboxes'}


def _albumentations() -> Any:
    try:
        import albumentations
    except ImportError as error:
        raise ImportError(
            f"Albu needs the package albumentations ({error}): pip install 'mmdet_ft[albu]', or "
            f'pip install albumentations') from None
    return albumentations


def is_moving(transforms: object) -> bool:
    """Check whether any of albumentations' transforms, dicts that may nest, moves pixels.

    These are its DualTransforms except those that only blank pixels. An unknown transform counts as
    moving.
    """
    for item in transforms if isinstance(transforms, (list, tuple)) else ():
        if not isinstance(item, dict):
            continue
        if 'transforms' in item:
            if is_moving(item['transforms']):
                return True
            continue
        kind = item.get('type')
        try:
            module = _albumentations()
        except ImportError:  # the constructor reports that
            return False
        cls = kind if inspect.isclass(kind) else getattr(module, str(kind), None)
        pixels_only = getattr(module, 'ImageOnlyTransform', None)
        if inspect.isclass(pixels_only) and inspect.isclass(cls) and issubclass(cls, pixels_only):
            continue
        if not str(getattr(cls, '__name__', kind)).endswith(BLANKING):
            return True
    return False


@PIPELINES.register_module()
class Albu:
    """Run transforms of albumentations on image, boxes, masks and labels.

    A dropped box loses its label and mask too. Ignored boxes (gt_bboxes_ignore) are moved like the
    others.

    Args:
        transforms: dicts with `type`, a name in albumentations, and its arguments; those with `transforms` nest.
        bbox_params: arguments of albumentations' BboxParams: `dict(type='BboxParams', format='pascal_voc',
            label_fields=['gt_labels'], min_visibility=0.0, filter_lost_elements=True)`.
        keymap: {our key: albumentations' key}; by default img, gt_masks and gt_bboxes are image, masks and bboxes.
        update_pad_shape: set pad_shape to the new size.
        skip_img_without_anno: reject a sample (None) without any box afterwards.

    Sets img_shape. Raises ImportError naming what to install.
    """
    passes_on = ('transforms', 'bbox_params', 'keymap')  # albumentations' own, not checked here
    holds_foreign = True  # names of albumentations mean other classes than here

    @staticmethod
    def moves_with(arguments: Mapping[str, Any]) -> Tuple[str, ...]:
        """Return what is moved with the image."""
        if not is_moving(arguments.get('transforms')):
            return ()
        targets = arguments.get('keymap') or arguments.get('keymap_to_albu') or KEYMAP
        targets = set(targets.items()) if isinstance(targets, dict) else set()
        has_boxes = arguments.get('bbox_params') is not None and ('gt_bboxes', 'bboxes') in targets
        return ('img', *(['bbox'] if has_boxes else []),
                *(['mask'] if ('gt_masks', 'masks') in targets else []),
                *(['seg'] if ('gt_semantic_seg', 'mask') in targets else []))

    @staticmethod
    def instead_of(arguments: Mapping[str, Any]) -> str:
        moves = Albu.moves_with(arguments) or ()
        asked = []
        if 'bbox' not in moves:
            asked.append(
                "bbox_params=dict(type='BboxParams', format='pascal_voc', label_fields=['gt_labels'], "
                'min_visibility=0.0, filter_lost_elements=True)')
        if 'mask' not in moves or 'seg' not in moves:
            asked.append(
                "keymap=dict(img='image', gt_bboxes='bboxes', gt_masks='masks', gt_semantic_seg='mask')"
            )
        return f'write in Albu {" and ".join(asked)}'

    def __init__(self,
                 transforms: List[Dict[str, Any]],
                 bbox_params: Optional[Dict[str, Any]] = None,
                 keymap: Optional[Dict[str, str]] = None,
                 update_pad_shape: bool = False,
                 skip_img_without_anno: bool = False):
        compose = _albumentations().Compose
        self.transforms = copy.deepcopy(transforms)
        self.keymap_to_albu = dict(keymap or KEYMAP)
        self.update_pad_shape = update_pad_shape
        self.skip_img_without_anno = skip_img_without_anno
        self.label_fields: List[str] = []
        params = None
        if bbox_params is not None:
            params = dict(bbox_params)
            params.setdefault('type', 'BboxParams')
            params.pop('filter_lost_elements', None)  # V2's switch for what is always done here
            self.label_fields = list(params.get('label_fields') or ())
            params['label_fields'] = [PLACES]
            params = self._build(params)
        self.bbox_params = params
        self.aug = compose([self._build(item) for item in self.transforms], bbox_params=params)

    def _build(self, cfg: Dict[str, Any]) -> Any:
        """Build an albumentations object from a dict with its type, inner ones first."""
        if not isinstance(cfg, dict) or 'type' not in cfg:
            raise TypeError(f'Albu: a transform is a dict with type=..., found {cfg!r}')
        arguments = dict(cfg)
        kind = arguments.pop('type')
        if not inspect.isclass(kind):
            if getattr(_albumentations(), str(kind), None) is None:
                raise KeyError(f'albumentations {_albumentations().__version__} has no {kind!r}')
            kind = getattr(_albumentations(), kind)
        if 'transforms' in arguments:
            arguments['transforms'] = [self._build(item) for item in arguments['transforms']]
        return kind(**arguments)

    def __call__(self, results: Dict[str, Any]) -> Optional[Dict[str, Any]]:
        if self.moves_with(vars(self)):
            refuse_objects(self, results)
        ours = {theirs: key for key, theirs in self.keymap_to_albu.items() if key in results}
        data = {theirs: results[key] for theirs, key in ours.items()}
        masks, boxes = data.get('masks'), data.get('bboxes')
        ignored = None
        if boxes is not None:
            if 'gt_bboxes_ignore' in results.get('bbox_fields', []):
                ignored = results['gt_bboxes_ignore']
                data['bboxes'] = np.concatenate([boxes, ignored])
            if self.bbox_params is not None:
                data[PLACES] = np.arange(len(data['bboxes']))
        if isinstance(masks, PolygonMasks):
            raise NotImplementedError(
                'Albu takes bitmaps; write LoadAnnotations(with_mask=True, poly2mask=True)')
        if isinstance(masks, BitmapMasks):
            if len(masks):
                data['masks'] = list(masks.masks)
            else:  # albumentations does not take an empty list for a stack of masks; an empty mask keeps the size
                data['masks'] = [np.zeros((masks.height, masks.width), dtype=np.uint8)]
        if hasattr(self.aug, 'set_random_seed'):
            # Newer versions use their own random generator; ours is seeded for each sample.
            self.aug.set_random_seed(int(np.random.randint(2**31)))
        elif boxes is not None:  # older versions test boxes for truth like a list
            data['bboxes'] = [tuple(box) for box in data['bboxes'].tolist()]
        data = self.aug(**data)

        results = {**results, **{key: data[theirs] for theirs, key in ours.items()}}
        img = results[ours['image']]
        results['img_shape'] = img.shape
        if self.update_pad_shape:
            results['pad_shape'] = img.shape
        if boxes is not None and self.bbox_params is not None:
            moved = np.array(data['bboxes'], dtype=np.float32).reshape(-1, 4)
            indices = np.array(data[PLACES], dtype=np.int64).reshape(-1)
            own = indices < len(boxes)
            results[ours['bboxes']] = moved[own]
            if ignored is not None:
                results['gt_bboxes_ignore'] = moved[~own]
            for key in self.label_fields:
                results[key] = np.asarray(results[key])[indices[own]]
        if isinstance(masks, BitmapMasks):
            moved_masks = BitmapMasks(data['masks'][:len(masks)], *img.shape[:2])
            if boxes is not None and self.bbox_params is not None:
                moved_masks = moved_masks[indices[own]]
            results[ours['masks']] = moved_masks
        if self.skip_img_without_anno and boxes is not None and not len(results[ours['bboxes']]):
            return None
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(transforms={self.transforms})'
