"""What an ONNX file says about its model, in the file's metadata."""
import dataclasses
import json
from typing import Any, Dict, List, Mapping, Tuple

from mmdet_ft.command_names import how_to_run
from mmdet_ft.errors import UserError

KEY = 'mmdet_ft'  # the metadata entry of the facts, as json; `classes` and `config` stand beside it for other readers
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class ModelFacts:
    """What is needed to run a file and to read its outputs.

    steps: how an image becomes the input, in order; each a dict with `type` (see preparation.STEPS).
    mean, std: of each channel in 0..255, in the order after `to_rgb`.
    divisor: the sides of the network's input are multiples of it, padded with zeros at the right and bottom.
    prepares: whether the file normalizes and pads: its input is uint8 [B, H, W, 3] in BGR, else float32 [B, 3, H, W].
    pastes: whether masks cover the whole image, of the size that the input `mask_size` gives.
    thresholds: of the config, as the file applies them.
    one_label: whether a classifier's image has one of the classes.
    """
    task: str  # 'detector' or 'classifier'
    model: str
    classes: Tuple[str, ...]
    steps: Tuple[Mapping[str, Any], ...]
    mean: Tuple[float, ...]
    std: Tuple[float, ...]
    to_rgb: bool
    divisor: int = 1
    prepares: bool = True
    pastes: bool = False
    mask_threshold: float = .5
    thresholds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    one_label: bool = True

    @property
    def is_gray(self) -> bool:
        """Return whether images have one channel."""
        return len(self.mean) == 1


def to_metadata(facts: ModelFacts, config: str) -> Dict[str, str]:
    """Return the metadata of a file: the facts, and the text of the config."""
    values = dict(format=FORMAT, **dataclasses.asdict(facts))
    return {KEY: json.dumps(values), 'classes': json.dumps(list(facts.classes)), 'config': config}


def from_metadata(metadata: Mapping[str, str], path: str) -> ModelFacts:
    """Read the facts of a file. Raises UserError for a file of another origin or of a later format."""
    if KEY not in metadata:
        raise UserError(
            f'{path} was not written by `{how_to_run("export")}`: its metadata lack {KEY!r}, which says how '
            'images are prepared; export the model again')
    values = json.loads(metadata[KEY])
    if values.pop('format', None) != FORMAT:
        raise UserError(
            f'{path} was written by another version of mmdet_ft; export the model again')
    lists: List[str] = ['classes', 'steps', 'mean', 'std']
    return ModelFacts(**{**values, **{key: tuple(values[key]) for key in lists}})
