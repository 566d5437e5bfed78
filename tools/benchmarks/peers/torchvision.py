"""torchvision's own maskrcnn_resnet50_fpn."""
import argparse
from typing import Any, Callable, List, Tuple

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN, backbone_utils
from torchvision.models.detection.image_list import ImageList
from torchvision.ops.misc import FrozenBatchNorm2d

from tools.benchmarks.peers.work import Peer, Setting, Work, layout, learn, prepare


def build(images: Tensor) -> MaskRCNN:
    """Build the model with frozen batch norm and first stages, 80 classes, and as many proposals as
    V2 samples from. The norms are fitted to the images to keep activations at unit scale.
    """
    torch.manual_seed(0)
    resnet = torchvision.models.resnet50(weights=None, norm_layer=FrozenBatchNorm2d)
    model = MaskRCNN(
        backbone_utils._resnet_fpn_extractor(resnet, 3), 91, rpn_post_nms_top_n_train=1000)
    fit_norms(model, lambda: model.backbone.body(images[:1]))
    return model.train()


def fit_norms(model: nn.Module, run: Callable[[], Any]) -> None:
    """Fit the frozen norms of a model to the activations of one run."""
    norms = [module for module in model.modules() if isinstance(module, FrozenBatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(_fit) for norm in norms]
    with torch.no_grad():
        run()
    for hook in hooks:
        hook.remove()


def _fit(norm: nn.Module, inputs: Tuple[Tensor]) -> None:
    norm.running_var, norm.running_mean = torch.var_mean(inputs[0], (0, 2, 3))


def peer(weights: str, work: Work, setting: Setting, args: argparse.Namespace) -> Peer:
    device = torch.device(args.device)
    model = build(work.images)
    model.load_state_dict(torch.load(weights))
    model = prepare(model, setting, device)
    sizes = [tuple(args.size)] * args.batch
    images = ImageList(layout(work.images.to(device), setting), sizes)
    targets = [
        dict(boxes=boxes.to(device), labels=labels.to(device) + 1, masks=masks.to(device))
        for boxes, labels, masks in zip(work.boxes, work.labels, work.masks)
    ]
    extra = list(work.extra.to(device))
    positives: List[Any] = []
    select = model.roi_heads.select_training_samples

    def counted(*arguments: Any) -> Tuple:
        chosen = select(*arguments)
        positives.append(sum((labels > 0).sum() for labels in chosen[2]))
        return chosen

    model.roi_heads.select_training_samples = counted

    def loss_of() -> Tensor:
        features = model.backbone(images.tensors)
        proposals, rpn_losses = model.rpn(images, features, targets)
        proposals = [torch.cat(pair) for pair in zip(proposals, extra)]
        _, losses = model.roi_heads(features, proposals, sizes, targets)
        return sum({**rpn_losses, **losses}.values())

    step, optimizer = learn(model, loss_of, setting, args)
    return Peer(step, positives, model, optimizer)
