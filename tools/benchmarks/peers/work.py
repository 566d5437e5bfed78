"""The input and output types of all peers, and their shared code."""
import argparse
from typing import Any, Callable, Dict, List, NamedTuple, Tuple, Union

import torch
from torch import Tensor, nn

PRECISIONS = ('float32', 'bfloat16', 'float16')


class Work(NamedTuple):
    images: Tensor  # float32 [B, 3, H, W], normalized
    boxes: List[Tensor]  # float32 [G, 4] per image
    labels: List[Tensor]  # int64 [G], 0..79
    masks: List[Tensor]  # uint8 [G, H, W]
    extra: Tensor  # float32 [B, E, 4], boxes that join the proposals


class Setting(NamedTuple):
    """The settings of a peer: words joined by `+`, as `channels_last+compile+bfloat16`."""
    precision: str = 'float32'
    channels_last: bool = False
    compile: Union[bool, Dict[str, Any]] = False  # or torch.compile's arguments
    cuda_graphs: bool = False
    triton: bool = False


class Peer(NamedTuple):
    step: Callable[[], Tensor]  # one training step; its loss
    positives: List[Any]  # of each step so far, all images together
    model: nn.Module
    optimizer: torch.optim.Optimizer
    remark: str = ''  # printed below the table


SETTINGS: Dict[str, Dict[str, Any]] = dict(
    plain={},
    channels_last=dict(channels_last=True),
    compile=dict(compile=True),
    reduce_overhead=dict(compile=dict(mode='reduce-overhead')),
    graphs=dict(cuda_graphs=True),
    triton=dict(triton=True),
    **{name: dict(precision=name)
       for name in PRECISIONS})


def read_setting(words: str, precision: str) -> Setting:
    setting = Setting(precision)
    for word in words.split('+'):
        if word not in SETTINGS:
            raise argparse.ArgumentTypeError(
                f'{word!r}: known are {", ".join(SETTINGS)}, joined by +')
        setting = setting._replace(**SETTINGS[word])
    return setting


def make_work(args: argparse.Namespace) -> Work:
    """Build noise images with ellipses as objects. Slightly shifted boxes of the objects are added
    to the proposals until there are `--positives` of them."""
    generator = torch.Generator().manual_seed(args.seed)
    height, width = args.size
    images = torch.randn(args.batch, 3, height, width, generator=generator)
    boxes, labels, masks, extra = [], [], [], []
    y, x = torch.arange(height)[:, None] + .5, torch.arange(width) + .5
    for _ in range(args.batch):
        size = (torch.rand(args.objects, 2, generator=generator) * .25 + .05) * min(args.size)
        corner = torch.rand(
            args.objects, 2, generator=generator) * (
                torch.tensor([width, height]) - size)
        box = torch.cat([corner, corner + size], 1)
        boxes.append(box)
        labels.append(torch.randint(0, 80, (args.objects, ), generator=generator))
        centre, radius = corner + size / 2, size / 2
        masks.append(
            torch.stack([(((x - cx) / rx)**2 + ((y - cy) / ry)**2 <= 1).to(torch.uint8)
                         for (cx, cy), (rx, ry) in zip(centre.tolist(), radius.tolist())]))
        copies = box[torch.arange(args.positives - args.objects) % args.objects]
        shift = (torch.rand(copies.shape, generator=generator) -
                 .5) * .1 * (copies[:, 2:] - copies[:, :2]).repeat(1, 2)
        extra.append(copies + shift)
    return Work(images, boxes, labels, masks, torch.stack(extra))


def layout(images: Tensor, setting: Setting) -> Tensor:
    return images.to(memory_format=torch.channels_last) if setting.channels_last else images


def prepare(model: nn.Module, setting: Setting, device: torch.device) -> nn.Module:
    """Move a peer's model to the device, with the options that its users can enable."""
    if setting.triton or setting.cuda_graphs:
        raise ValueError('triton and graphs are switches of mmdet_ft')
    model = model.to(device)
    if setting.channels_last:
        model = model.to(memory_format=torch.channels_last)
    if setting.compile:
        model.backbone.compile(**(setting.compile if isinstance(setting.compile, dict) else {}))
    return model


def learn(model: nn.Module, loss_of: Callable[[], Tensor], setting: Setting,
          args: argparse.Namespace) -> Tuple[Callable[[], Tensor], torch.optim.Optimizer]:
    """Return (step, optimizer) for a peer without a runner of its own: autocast and SGD."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=args.lr, momentum=.9, weight_decay=1e-4)
    half = setting.precision != 'float32'
    scale = 512. if setting.precision == 'float16' else 1.

    def step() -> Tensor:
        optimizer.zero_grad()
        with torch.autocast(
                torch.device(args.device).type, getattr(torch, setting.precision), enabled=half):
            loss = loss_of()
        (loss * scale).backward()
        if scale != 1:
            torch._foreach_div_([p.grad for p in parameters if p.grad is not None], scale)
        optimizer.step()
        return loss.detach()

    return step, optimizer
