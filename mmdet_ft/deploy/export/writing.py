"""Export of a model to an ONNX file of standard operators."""
import contextlib
import dataclasses
import io
import logging
import warnings
from typing import Any, Dict, Iterator, Mapping, Sequence, Tuple

import torch
from torch import Tensor, nn

from mmdet_ft.deploy.export import dense  # noqa: F401 # registers its graphs
from mmdet_ft.deploy.export.graphs import Graph, graph_of, input_names
from mmdet_ft.deploy.export.pipeline import read_pipeline
from mmdet_ft.deploy.facts import ModelFacts, to_metadata
from mmdet_ft.deploy.runtime import INSTALL
from mmdet_ft.errors import UserError
from mmdet_ft.models.classifiers.image import ImageClassifier
from mmdet_ft.models.detectors.base import Detector
from mmdet_ft.outputs import atomic_file

OPSET = 17
# RoiAlign with half-pixel coordinates, and GridSample, came with 16.
OPSETS = range(16, 21)
logger = logging.getLogger('mmdet_ft')


@dataclasses.dataclass(frozen=True)
class ExportSettings:
    """How a file is written.

    opset: version of ONNX's operators.
    is_dynamic: any batch and image size; otherwise those of `shape`.
    shape: height and width of the image that is recorded.
    prepares: the file normalizes and pads; its input is uint8 in BGR.
    pastes: masks cover the whole image, of the size that the input mask_size gives.
    """
    opset: int = OPSET
    is_dynamic: bool = True
    shape: Tuple[int, int] = (320, 416)
    prepares: bool = True
    pastes: bool = False


def read_input_format(
    model: nn.Module,
    pipeline: Sequence[Mapping[str, Any]],
    settings: ExportSettings = ExportSettings()) -> ModelFacts:
    """Return the facts of a model with its classes and the test pipeline of its config.

    Raises UserError if it cannot be exported as configured.
    """
    classes: Any = getattr(model, 'CLASSES', None)
    if not classes:
        raise UserError('the model does not know its classes: model.CLASSES = (...)')
    common: Dict[str, Any] = dict(
        model=type(model).__name__,
        classes=tuple(classes),
        prepares=settings.prepares,
        **read_pipeline(pipeline))
    if isinstance(model, ImageClassifier):
        return ModelFacts(
            task='classifier', one_label=getattr(model.head, 'one_label', True), **common)
    assert isinstance(model, Detector), type(model)
    return ModelFacts(
        task='detector',
        pastes=settings.pastes and model.gives_masks,
        mask_threshold=model.mask_threshold,
        thresholds=_thresholds(model),
        **common)


def _thresholds(model: nn.Module) -> Dict[str, float]:
    """Return the numbers of `test_cfg` that the file applies."""
    head = getattr(model, 'roi_head', None) or getattr(model, 'bbox_head', None)
    settings = getattr(head, 'test_settings', None)
    if settings is None:
        return {}
    return dict(
        score_thr=settings.score_thr,
        nms_iou_threshold=settings.nms.iou_threshold,
        max_per_img=settings.max_per_img)


def export(model: nn.Module,
           path: str,
           facts: ModelFacts,
           settings: ExportSettings = ExportSettings(),
           config: str = '') -> None:
    """Write a model as an ONNX file.

    Torch's exporter by tracing (`dynamo=False`) is used. It records data-dependent numbers of boxes and any image
    size as they are, in seconds, and needs no package but onnx. The newer one takes a minute for the same model,
    needs onnxscript, and cannot sort out sizes that depend on the number of boxes.

    Args:
        path: of the file; it appears when it is complete.
        facts: of `facts_of`, written into its metadata.
        config: text of the config, for the metadata.

    Raises UserError without onnx, for an opset out of range and for parts that have no export form.
    """
    try:
        import onnx
    except ImportError:
        raise UserError(f'writing an ONNX file needs onnx: {INSTALL}') from None
    if settings.opset not in OPSETS:
        raise UserError(
            f'opset {settings.opset}: RoiAlign and GridSample are as here from {OPSETS[0]}, and torch writes up to '
            f'{OPSETS[-1]}; {OPSET} is the default')
    graph = graph_of(model, facts).eval()
    content: Any = io.BytesIO()  # which torch accepts, other than it states
    with torch.no_grad(), _quietly():
        torch.onnx.export(
            graph,
            example_inputs(facts, settings),
            content,
            input_names=list(input_names(facts)),
            output_names=list(graph.output_names),
            opset_version=settings.opset,
            dynamic_axes=_dynamic_axes(graph) if settings.is_dynamic else None,
            # Norm layers stay, so that every layer of the model can be compared; ONNX Runtime folds them.
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
            dynamo=False)
    proto = onnx.load_model_from_string(content.getvalue())
    require_standard(proto)
    for key, value in to_metadata(facts, config).items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(proto)
    with atomic_file(path) as file:
        file.write(proto.SerializeToString())


def example_inputs(facts: ModelFacts, settings: ExportSettings) -> Tuple[Tensor, ...]:
    """Return inputs of two images to be recorded (of one where the sizes are fixed)."""
    generator = torch.Generator().manual_seed(0)
    count, channels = 2 if settings.is_dynamic else 1, len(facts.mean)
    height, width = settings.shape
    noise = torch.randint(0, 256, (count, height, width, channels), generator=generator)
    mask_size = (torch.tensor(settings.shape), ) if facts.pastes else ()
    if facts.prepares:
        return (noise.to(torch.uint8), *mask_size)
    height, width = (-(-side // facts.divisor) * facts.divisor for side in settings.shape)
    images = torch.randn(count, channels, height, width, generator=generator)
    sizes = torch.tensor([[float(height), float(width)]] * count)
    return (images, *((sizes, ) if 'sizes' in input_names(facts) else ()), *mask_size)


def _dynamic_axes(graph: Graph) -> Dict[str, Dict[int, str]]:
    spatial = {1: 'height', 2: 'width'} if graph.facts.prepares else {2: 'height', 3: 'width'}
    axes = dict(images={0: 'batch', **spatial}, sizes={0: 'batch'})
    axes = {name: axes[name] for name in input_names(graph.facts) if name in axes}
    boxes = {} if graph.facts.task == 'classifier' else {1: 'num_dets'}
    axes.update({name: {0: 'batch', **boxes} for name in graph.output_names})
    if graph.facts.pastes:
        axes['masks'].update({2: 'mask_height', 3: 'mask_width'})
    return axes


def require_standard(proto: Any) -> None:
    """Raise UserError if a file has operators beyond ONNX's own."""
    foreign = sorted({
        f'{node.domain}.{node.op_type}'
        for node in proto.graph.node if node.domain not in ('', 'ai.onnx')
    })
    if foreign:
        raise UserError(
            f'no standard operators of ONNX: {", ".join(foreign)}; a part of this model has no export form'
        )


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Silence the exporter, which warns of every Python number in a trace and of its own age."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield
